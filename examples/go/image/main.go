// A question about an image.   image [ENDPOINT] FILE
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/troupe-engine/troupe/sdk/go"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: image [ENDPOINT] FILE: a JPEG, PNG or WebP")
	}
	picture, err := os.ReadFile(os.Args[len(os.Args)-1])
	if err != nil {
		log.Fatal(err)
	}
	endpoint := "echo:"
	if len(os.Args) > 2 {
		endpoint = os.Args[1]
	}
	engine, err := troupe.Open(endpoint, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	question := troupe.Message{Role: troupe.User, Images: []troupe.Image{troupe.EncodedImage(picture)}, Text: " What is this?"}
	answer, err := engine.Generate(context.Background(), troupe.Request{Messages: []troupe.Message{question}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Text)
}
