// One answer: the whole of it, when it is there.   answer [ENDPOINT] [PROMPT]
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/troupe-engine/troupe/sdk/go"
)

func main() {
	args := append(os.Args[1:], []string{"echo:", "All the world's a stage"}[min(len(os.Args)-1, 2):]...)
	engine, err := troupe.Open(args[0], nil)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	answer, err := engine.Generate(context.Background(), troupe.Request{Prompt: args[1]})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Text)
}
