// A streamed chat: tokens are printed as they come.   chat [ENDPOINT] < lines
#include <iostream>
#include <string>
#include <troupe.hpp>

int main(int argc, char** argv) try {
  troupe::Engine engine(argc > 1 ? argv[1] : "echo:");
  troupe::Request chat;
  chat.system("Answer in one sentence.");
  for (std::string line; std::getline(std::cin, line);) {
    chat.user(line);
    std::string answer;
    for (const troupe::Event& event : engine.stream(chat)) {
      std::cout << event.text() << std::flush;
      answer += event.text();
    }
    std::cout << "\n";
    chat.assistant(answer);
  }
} catch (const troupe::Error& error) {
  std::cerr << error.name() << ": " << error.what() << "\n";
  return 1;
}
