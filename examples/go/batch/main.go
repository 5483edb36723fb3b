// A batch: all requests run at once, the answers come in order.   batch [ENDPOINT]
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/troupe-engine/troupe/sdk/go"
)

func main() {
	engine, err := troupe.Open(append(os.Args, "echo:")[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	var requests []troupe.Request
	for _, prompt := range []string{"one", "two", "three", "four", "five"} {
		requests = append(requests, troupe.Request{Prompt: prompt})
	}
	answers, errs := engine.Batch(context.Background(), requests)
	for i, answer := range answers {
		if errs[i] != nil {
			log.Fatal(errs[i])
		}
		fmt.Println(requests[i].Prompt, "->", answer.Text)
	}
}
