#include "wire/endpoint.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <memory>

namespace troupe::wire {
namespace {

constexpr int kProbe_ms = 200;
constexpr std::string_view kTcp = "tcp://", kIpc = "ipc://";

struct HostPort {
  std::string host, port;
};

// host and port of tcp://host:port; empty host: there is none.
HostPort split(std::string_view endpoint) {
  const std::string_view rest = endpoint.substr(kTcp.size());
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return {};
  std::string_view host = rest.substr(0, colon);
  if (host.size() > 1 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  return {std::string(host), std::string(rest.substr(colon + 1))};
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

bool refused(int family, const sockaddr* address, socklen_t size) {
  const Descriptor fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return false;
  if (::connect(fd.get(), address, size) == 0) return false;
  if (errno == ECONNREFUSED || errno == ENOENT) return true;
  if (errno != EINPROGRESS) return false;
  pollfd waiting{fd.get(), POLLOUT, 0};
  if (::poll(&waiting, 1, kProbe_ms) != 1) return false;
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error == ECONNREFUSED;
}

bool refused_path(std::string_view path) {
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof address.sun_path) return false;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() +
                                           (path[0] == '@' ? 0 : 1));
  return refused(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), size);
}

bool is_port(std::string_view text) {
  return !text.empty() && text.size() <= 5 &&
         text.find_first_not_of("0123456789") == std::string_view::npos &&
         std::stoi(std::string(text)) <= 65535;
}

Status check_path(const std::string& name, std::string_view path) {
  constexpr size_t kMost = sizeof(sockaddr_un::sun_path) - 1;
  if (path.empty()) return invalid(name + ": it names no path");
  if (path.size() <= kMost) return {};
  return invalid(name + ": its path has " + std::to_string(path.size()) +
                 " bytes: a socket's has at most " + std::to_string(kMost));
}

// libzmq removes whatever has the path's name before it binds, be it somebody's file or the socket
// of a server that runs.
Status check_place(const std::string& name, const std::string& path) {
  struct stat facts {};
  if (path[0] == '@' || ::stat(path.c_str(), &facts) != 0) return {};  // '@': in no file system
  if (!S_ISSOCK(facts.st_mode)) {
    return invalid(name + ": " + path +
                   " is there and is no socket; it is left alone: choose another path, or remove "
                   "it");
  }
  if (refused_path(path)) return {};  // left behind by a server that was killed
  return invalid(name + " is in use: somebody listens there");
}

}  // namespace

bool is_local(std::string_view endpoint) {
  if (endpoint.starts_with(kIpc)) return true;
  if (!endpoint.starts_with(kTcp)) return false;
  const std::string host = split(endpoint).host;
  return host == "localhost" || host == "::1" || host == "lo" || host.starts_with("127.");
}

Status check_bind(std::string_view bind, bool has_keys, bool allow_plaintext) {
  const std::string name = "endpoint \"" + std::string(bind) + "\"";
  const bool tcp = bind.starts_with(kTcp);
  if (!tcp && !bind.starts_with(kIpc)) {
    return invalid(name + ": a server binds tcp://HOST:PORT (PORT may be *) or ipc://PATH");
  }
  if (!tcp) {
    TR_TRY(check_path(name, bind.substr(kIpc.size())));
    return check_place(name, std::string(bind.substr(kIpc.size())));
  }
  const HostPort at = split(bind);
  if (at.host.empty() || (at.port != "*" && !is_port(at.port)))
    return invalid(name + ": it must be tcp://HOST:PORT, PORT being 0 to 65535 or *");
  if (is_local(bind) || has_keys || allow_plaintext) return {};
  return invalid(
      name +
      " can be reached from other machines, and without keys anybody there may use and "
      "overhear it: give the server a CURVE key pair (troupe keygen), bind 127.0.0.1, or "
      "allow plaintext in so many words (allow_plaintext, --allow-plaintext)");
}

std::string bound_endpoint(const std::string& bind) {
  if (!bind.starts_with(kTcp)) return bind;
  const HostPort at = split(bind);
  return at.host == "localhost" ? "tcp://127.0.0.1:" + at.port : bind;
}

Status cannot_bind(const std::string& bind, int error, std::string_view said) {
  const std::string what = "cannot bind " + bind + ": ";
  if (error != ENODEV && error != EADDRNOTAVAIL) return invalid(what + std::string(said));
  return {Code::not_found,
          what + "\"" + split(bind).host +
              "\" is no address and no network interface of this machine. A server binds one of "
              "these, not a host's name: write its address (127.0.0.1, or 0.0.0.0 for all of them; "
              "[::1] and [::] for IPv6) or its interface (eth0); clients may use the name"};
}

Status check_connect(std::string_view endpoint) {
  const std::string name = "endpoint \"" + std::string(endpoint) + "\"";
  if (endpoint.starts_with(kIpc)) return check_path(name, endpoint.substr(kIpc.size()));
  const HostPort at = split(endpoint);
  if (at.host.empty() || !is_port(at.port) || at.port.find_first_not_of('0') == std::string::npos)
    return invalid(name + ": it must be tcp://HOST:PORT, PORT being 1 to 65535");
  return {};
}

void remove_socket(const std::string& endpoint) {
  if (!endpoint.starts_with(kIpc) || endpoint[kIpc.size()] == '@') return;
  ::unlink(endpoint.c_str() + kIpc.size());
}

Status check_key(std::string_view name, std::string_view key) {
  constexpr std::string_view kZ85 =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
  if (key.size() != 40) {
    return invalid(std::string(name) + " has " + std::to_string(key.size()) +
                   " characters: a CURVE key has 40, in Z85 (troupe keygen makes a pair)");
  }
  if (const size_t bad = key.find_first_not_of(kZ85); bad != std::string_view::npos) {
    return invalid(std::string(name) + ": its character " + std::to_string(bad + 1) +
                   " is none of Z85's");
  }
  std::array<uint8_t, 32> raw{};
  if (zmq_z85_decode(raw.data(), std::string(key).c_str()) == nullptr) {
    return invalid(std::string(name) + " is no Z85");
  }
  return {};
}

Result<std::string> public_of(std::string_view secret_key) {
  std::array<char, 41> text{};
  if (zmq_curve_public(text.data(), std::string(secret_key).c_str()) != 0) {
    return unsupported(std::string("this libzmq cannot make CURVE keys: ") +
                       zmq_strerror(zmq_errno()));
  }
  return std::string(text.data());
}

Result<std::pair<std::string, std::string>> make_keys() {
  const auto plain = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  std::array<char, 41> public_key{}, secret_key{};
  do {
    if (zmq_curve_keypair(public_key.data(), secret_key.data()) != 0) {
      return unsupported(std::string("this libzmq cannot make CURVE keys: ") +
                         zmq_strerror(zmq_errno()));
    }
  } while (!plain(public_key[0]) || !plain(secret_key[0]));
  return std::pair(std::string(public_key.data()), std::string(secret_key.data()));
}

bool nobody_listens(const std::string& endpoint) {
  if (endpoint.starts_with(kIpc))
    return refused_path(std::string_view(endpoint).substr(kIpc.size()));
  if (!endpoint.starts_with(kTcp)) return false;
  const HostPort at = split(endpoint);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(at.host.c_str(), at.port.c_str(), &hints, &found) != 0) return false;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, &::freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    if (!refused(one->ai_family, one->ai_addr, one->ai_addrlen)) return false;
  }
  return found != nullptr;
}

}  // namespace troupe::wire
