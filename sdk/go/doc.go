// Package troupe runs language and vision-language models in your process, or from afar, with one handle.
//
//	engine, err := troupe.Open("models/llama", nil)
//	if err != nil {
//		return err
//	}
//	defer engine.Close()
//	for delta, err := range engine.Stream(ctx, troupe.Request{Prompt: "Once upon a time"}) {
//		if err != nil {
//			return err
//		}
//		fmt.Print(delta.Text)
//	}
//
// An endpoint is a model folder, "echo:" (an engine that answers with the prompt, for tests), or
// "tcp://host:port". Engines are safe for use by many goroutines. The package needs libtroupe and its
// pkg-config file.
package troupe
