// One answer: the whole of it, when it is there.   answer [ENDPOINT] [PROMPT]
#include <iostream>
#include <troupe.hpp>

int main(int argc, char** argv) try {
  troupe::Engine engine(argc > 1 ? argv[1] : "echo:");
  const troupe::Request request(argc > 2 ? argv[2] : "All the world's a stage");
  std::cout << engine.generate(request).text << "\n";
} catch (const troupe::Error& error) {
  std::cerr << error.name() << ": " << error.what() << "\n";
  return 1;
}
