// A batch: all requests are submitted at once and answered as they finish; user_data says whose
// event it is.   batch [ENDPOINT]
#include <iostream>
#include <string>
#include <troupe.hpp>
#include <vector>

int main(int argc, char** argv) try {
  troupe::Engine engine(argc > 1 ? argv[1] : "echo:");
  troupe::Queue queue;
  const std::vector<std::string> prompts = {"one", "two", "three", "four", "five"};
  for (size_t i = 0; i < prompts.size(); ++i) engine.submit(troupe::Request(prompts[i]), queue, i);

  std::vector<std::string> answers(prompts.size());
  for (size_t left = prompts.size(); left > 0;) {
    for (const troupe::Event& event : queue.wait()) {
      answers[event->user_data] += event.text();
      if (event.terminal()) --left;
    }
  }
  for (size_t i = 0; i < prompts.size(); ++i)
    std::cout << prompts[i] << " -> " << answers[i] << "\n";
} catch (const troupe::Error& error) {
  std::cerr << error.name() << ": " << error.what() << "\n";
  return 1;
}
