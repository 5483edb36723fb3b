// A streamed chat: tokens are printed as they come.   chat [ENDPOINT] < lines
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"

	"github.com/troupe-engine/troupe/sdk/go"
)

func main() {
	endpoint := append(os.Args, "echo:")[1]
	engine, err := troupe.Open(endpoint, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	chat := []troupe.Message{{Role: troupe.System, Text: "Answer in one sentence."}}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		chat = append(chat, troupe.Message{Role: troupe.User, Text: lines.Text()})
		answer := ""
		for delta, err := range engine.Stream(context.Background(), troupe.Request{Messages: chat}) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Print(delta.Text)
			answer += delta.Text
		}
		fmt.Println()
		chat = append(chat, troupe.Message{Role: troupe.Assistant, Text: answer})
	}
}
