// ServerCore's questions: what may block is asked elsewhere (Host::run), and its reply is sent if
// the client is still the one that asked.
#include <utility>

#include "wire/server_core.hpp"

namespace troupe::wire {
namespace {

// As many of one client's as there are threads.
constexpr uint64_t kAskingAlone = 2;

// How long it takes is in the hands of who asks.
bool is_long(Kind kind) {
  return kind == Kind::tokenize || kind == Kind::detokenize || kind == Kind::render;
}

Answer failed(Status why) {
  Answer answer;
  answer.status = std::move(why);
  return answer;
}

template <class T, class Put>
Answer from(Result<T> result, Put put) {
  Answer answer;
  if (result.ok()) {
    put(answer, std::move(result).value());
  } else {
    answer.status = result.status();
  }
  return answer;
}

void put_text(Answer& answer, std::string text) {
  answer.text = std::move(text);
}

using Work = std::function<Answer()>;

Work tokenize(std::shared_ptr<EnginePort> engine, Question& q) {
  return [engine = std::move(engine), text = std::move(q.text), flags = q.flags] {
    return from(engine->tokenize(text, (flags & kAddSpecial) != 0, (flags & kParseSpecial) != 0),
                [](Answer& a, std::vector<int32_t> ids) { a.tokens = std::move(ids); });
  };
}

Work detokenize(std::shared_ptr<EnginePort> engine, const EngineInfo& info, const Question& q,
                std::span<const SharedBytes> blobs) {
  if (!q.tokens_blob || blobs.size() != 1)
    return [] { return failed(invalid("DETOKENIZE: the ids must be the one blob")); };
  const auto ids = tokens_of("DETOKENIZE", std::span(blobs[0].data, blobs[0].size));
  if (!ids.ok()) return [why = ids.status()] { return failed(why); };
  for (size_t i = 0; i < ids->size(); ++i) {
    const int32_t id = (*ids)[i];
    if (id >= 0 && id < info.vocab_size) continue;
    return [i, id, vocab = info.vocab_size] {
      return failed(invalid("tokens[" + std::to_string(i) + "] is " + std::to_string(id) +
                            ": it must be 0 to " + std::to_string(vocab - 1) +
                            ", the model's vocabulary"));
    };
  }
  return [engine = std::move(engine), ids = *ids, flags = q.flags] {
    return from(engine->detokenize(ids, (flags & kSkipSpecial) != 0), put_text);
  };
}

}  // namespace

Client* ServerCore::find(const std::string& scope, uint64_t epoch) {
  const auto it = clients_.find(scope);
  return it != clients_.end() && it->second->epoch == epoch ? it->second.get() : nullptr;
}

bool ServerCore::ask(Peer& peer, Kind kind, Incoming& message) {
  Client& client = *peer.client;
  const auto call = call_of(message.body);
  if (!call) return false;
  const auto reply = [&](Status why) {
    Answer refused = failed(std::move(why));
    refused.call = *call;
    ++client.questions;  // as if it had been asked
    answer(client.scope, client.epoch, std::move(refused));
    return true;
  };
  if (message.body.size() > config_.limits.body_bytes) {
    return reply(limit_exceeded("the question has " + std::to_string(message.body.size()) +
                                " bytes: this server takes " +
                                std::to_string(config_.limits.body_bytes)));
  }
  if (client.questions >= config_.limits.questions) {
    return reply({Code::overloaded, "this client has " + std::to_string(client.questions) +
                                        " questions unanswered, as many as it may"});
  }
  Result<Question> question = read_question(kind, message.body, config_.limits);
  if (!question.ok()) return reply(question.status());
  Work work = work_of(client, *question, std::move(message.blobs));
  ++client.questions;
  if (is_long(kind)) {
    client.asked.push_back({*call, std::move(work)});
    ask_next(client);
    return true;
  }
  host_.run([this, work = std::move(work), scope = client.scope, epoch = client.epoch,
             call = *call]() -> std::function<void()> {
    auto result = std::make_shared<Answer>(work());
    result->call = call;
    return [this, scope, epoch, result] { answer(scope, epoch, std::move(*result)); };
  });
  return true;
}

// Long questions take their client's turn, one after the other, so that somebody else's find a
// thread however many one client asks.
void ServerCore::ask_next(Client& client) {
  if (client.asked.empty() || client.asking >= (clients_.size() > 1 ? 1U : kAskingAlone)) return;
  HeldQuestion next = std::move(client.asked.front());
  client.asked.pop_front();
  ++client.asking;
  host_.run([this, next = std::move(next), scope = client.scope,
             epoch = client.epoch]() -> std::function<void()> {
    auto result = std::make_shared<Answer>(next.work());
    result->call = next.call;
    return [this, scope, epoch, result] {
      answer(scope, epoch, std::move(*result));
      Client* const asker = find(scope, epoch);
      if (asker == nullptr) return;
      --asker->asking;
      ask_next(*asker);
    };
  });
}

// The server's own counters, in the form of the engine's.
std::string ServerCore::metrics_text() const {
  std::string text;
  const auto add = [&](const char* name, const char* type, uint64_t value) {
    text.append("# TYPE troupe_wire_").append(name).append(" ").append(type).append("\n");
    text.append("troupe_wire_").append(name).append(" ").append(std::to_string(value)).append("\n");
  };
  add("connections", "gauge", peers_.size());
  add("clients", "gauge", clients_.size());
  add("requests_running", "gauge", running_);
  add("requests_waiting", "gauge", waiting_);
  add("blob_bytes", "gauge", blob_bytes_);
  add("messages_total", "counter", counters_.messages);
  add("messages_dropped_total", "counter", counters_.dropped);
  add("refused_total", "counter", counters_.refused);
  add("delta_messages_total", "counter", counters_.deltas);
  add("clients_resumed_total", "counter", counters_.resumed);
  add("clients_expired_total", "counter", counters_.expired);
  add("reading_rests_total", "counter", counters_.rests);
  add("requests_held_total", "counter", counters_.held);
  add("overfull_connections_total", "counter", counters_.overfull);
  return text;
}

std::function<Answer()> ServerCore::work_of(Client& client, Question& q,
                                            std::vector<SharedBytes> blobs) {
  const std::shared_ptr<EnginePort> engine = engine_;
  const bool needs_session = q.kind >= Kind::session_fork && q.kind <= Kind::session_free;
  uint64_t session = 0;
  if (needs_session) {
    const auto it = client.sessions.find(q.session);
    if (it == client.sessions.end()) {
      return [handle = q.session] {
        return failed(
            {Code::not_found, "session " + std::to_string(handle) + " is none of this client's"});
      };
    }
    session = it->second;
    if (q.kind == Kind::session_free) client.sessions.erase(it);
  }
  const auto put_session = [](Answer& a, uint64_t id) { a.session = id; };
  switch (q.kind) {
    case Kind::stats:
      return [engine, waiting = static_cast<uint32_t>(waiting_)] {
        return from(engine->stats(), [waiting](Answer& a, EngineStats s) {
          s.waiting += waiting;
          a.stats = s;
        });
      };
    case Kind::metrics:
      return [engine, own = metrics_text()] {
        return from(engine->metrics(),
                    [&](Answer& a, std::string text) { a.text = std::move(text) + own; });
      };
    case Kind::tokenize:
      return tokenize(engine, q);
    case Kind::detokenize:
      return detokenize(engine, info_, q, blobs);
    case Kind::render: {
      std::vector<size_t> sizes;
      for (const SharedBytes& blob : blobs) sizes.push_back(blob.size);
      if (const Status why = check_blobs(q.draft, sizes, config_.limits); !why.ok())
        return [why] { return failed(why); };
      auto request = std::make_shared<Request>(complete(std::move(q.draft), blobs));
      return [engine, request] { return from(engine->render(*request), put_text); };
    }
    case Kind::session_new:
      return [engine, put_session, lease = q.lease_ns] {
        return from(engine->session_new({lease}), put_session);
      };
    case Kind::session_fork:
      return [engine, put_session, session] {
        return from(engine->session_fork(session), put_session);
      };
    case Kind::session_rewind:
      return
          [engine, session, n = q.n_tokens] { return failed(engine->session_rewind(session, n)); };
    case Kind::session_info:
      return [engine, session] {
        return from(engine->session_info(session), [](Answer& a, SessionState s) { a.state = s; });
      };
    case Kind::session_free:
      return [engine, session] {
        engine->session_free(session);
        return Answer{};
      };
    default:
      break;
  }
  return [kind = q.kind] {
    return failed(unsupported("this server knows no question of kind " +
                              std::to_string(static_cast<int>(kind))));
  };
}

// The engine's session becomes the client's, under a handle of its own; nobody's is freed.
void ServerCore::take_session(Client* client, Answer& answer) {
  if (!answer.session) return;
  const bool room = client != nullptr && client->sessions.size() < config_.limits.sessions;
  if (room) {
    const uint64_t handle = next_session_++;
    client->sessions.emplace(handle, *answer.session);
    answer.session = handle;
    return;
  }
  host_.run([engine = engine_, session = *answer.session]() -> std::function<void()> {
    engine->session_free(session);
    return [] {};
  });
  answer.session.reset();
  answer.status = limit_exceeded("this client has " + std::to_string(config_.limits.sessions) +
                                 " sessions, as many as it may: free one");
}

void ServerCore::answer(const std::string& scope, uint64_t epoch, Answer answer) {
  Client* const client = find(scope, epoch);
  take_session(client, answer);
  if (client == nullptr) return;
  if (client->peer == nullptr) {
    --client->questions;
    return;
  }
  std::string body;
  write_answer(body, answer);
  std::vector<SharedBytes> blobs;
  if (answer.tokens) blobs.push_back(tokens_blob(std::move(*answer.tokens)));
  queue(*client->peer, Kind::reply, std::move(body), std::move(blobs));
}

}  // namespace troupe::wire
