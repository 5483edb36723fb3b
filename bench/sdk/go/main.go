// Reads many answers at once, one goroutine each, and prints how many token events came.
// overhead ENDPOINT STREAMS TOKENS; see bench/sdk/run.py
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/troupe-engine/troupe/sdk/go"
)

func main() {
	streams, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	engine, err := troupe.Open(os.Args[1], &troupe.Options{MaxSequences: int32(streams)})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	request := troupe.Request{Prompt: strings.Repeat("x", tokens)}
	var total atomic.Int64
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			for delta, err := range engine.Stream(context.Background(), request) {
				if err != nil {
					log.Fatal(err)
				}
				if len(delta.Tokens) > 0 {
					total.Add(1)
				}
			}
		})
	}
	all.Wait()
	fmt.Println(total.Load())
}
