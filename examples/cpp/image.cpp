// A question about an image.   image [ENDPOINT] FILE
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <troupe.hpp>

int main(int argc, char** argv) try {
  std::ifstream file(argc > 1 ? argv[argc - 1] : "", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty()) {
    std::cerr << "usage: " << argv[0] << " [ENDPOINT] FILE: a JPEG, PNG or WebP\n";
    return 2;
  }
  troupe::Engine engine(argc > 2 ? argv[1] : "echo:");
  troupe::Request request;
  request.message(TROUPE_ROLE_USER)
      .image(troupe::Image(bytes.data(), bytes.size()))
      .text(" What is this?");
  for (const troupe::Event& event : engine.stream(request)) std::cout << event.text() << std::flush;
  std::cout << "\n";
} catch (const troupe::Error& error) {
  std::cerr << error.name() << ": " << error.what() << "\n";
  return 1;
}
