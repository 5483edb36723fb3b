// A session with a fork: one beginning, two ways to go on, and neither repeats its work.
//   session [ENDPOINT]
#include <iostream>
#include <string>
#include <troupe.hpp>

int main(int argc, char** argv) try {
  troupe::Engine engine(argc > 1 ? argv[1] : "echo:");
  const auto ask = [&](const troupe::Session& session, const std::string& prompt) {
    std::cout << engine.generate(troupe::Request(prompt).session(session)).text << "\n";
  };
  const troupe::Session session(engine);
  ask(session, "Once upon a time there was a lamp.");

  const troupe::Session other = session.fork();
  ask(session, " It was lit.");
  ask(other, " It was broken.");
  std::cout << "the fork holds " << other.info().tokens << " tokens\n";
} catch (const troupe::Error& error) {
  std::cerr << error.name() << ": " << error.what() << "\n";
  return 1;
}
