// A session with a fork: one beginning, two ways to go on, and neither repeats its work.   session [ENDPOINT]
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/troupe-engine/troupe/sdk/go"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func ask(engine *troupe.Engine, session *troupe.Session, prompt string) {
	answer, err := engine.Generate(context.Background(), troupe.Request{Prompt: prompt, Session: session})
	check(err)
	fmt.Println(answer.Text)
}

func main() {
	engine, err := troupe.Open(append(os.Args, "echo:")[1], nil)
	check(err)
	defer engine.Close()
	session, err := engine.NewSession(0)
	check(err)
	defer session.Close()
	ask(engine, session, "Once upon a time there was a lamp.")

	other, err := session.Fork()
	check(err)
	defer other.Close()
	ask(engine, session, " It was lit.")
	ask(engine, other, " It was broken.")
	state, err := other.State()
	check(err)
	fmt.Println("the fork holds", state.Tokens, "tokens")
}
