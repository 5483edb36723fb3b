#include "actors/chat_pictures.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json_value.hpp"

namespace troupe::actors {
namespace {

using Json = nlohmann::ordered_json;  // templates print objects in the order in which they came

const char* role_name(Role role) {
  switch (role) {
    case Role::system: return "system";
    case Role::user: return "user";
    case Role::assistant: return "assistant";
    case Role::tool: return "tool";
  }
  return "user";
}

bool is_picture(const Json& part) {
  if (!part.is_object()) return false;
  const auto type = part.find("type");
  return type != part.end() && (*type == "image" || *type == "image_url");
}

Result<Json> message_of(const PromptMessage& message) {
  Json content = Json::array();
  bool pictures = false;
  std::string text;
  for (const PromptPart& part : message.parts) {
    if (part.kind == PromptPart::Kind::tokens) {
      return unsupported("messages: a message holds text and images; give token ids as a raw prompt");
    }
    if (part.kind == PromptPart::Kind::image) {
      pictures = true;
      content.push_back({{"type", "image"}, {"index", part.image}});
    } else {
      text += part.text;
      content.push_back({{"type", "text"}, {"text", part.text}});
    }
  }
  return Json{{"role", role_name(message.role)}, {"content", pictures ? content : Json(text)}};
}

Result<Json> messages_of(const Request& request) {
  if (!request.messages_json.empty()) {
    auto messages = parse_ordered_json(request.messages_json, kMessageDepth);
    if (!messages.ok()) return invalid("messages: " + messages.status().message());
    if (!messages->is_array()) return invalid("messages: must be a JSON array");
    return messages;
  }
  Json messages = Json::array();
  for (const PromptMessage& message : request.messages) {
    TR_ASSIGN(Json one, message_of(message));
    messages.push_back(std::move(one));
  }
  return messages;
}

// Each image part becomes {"type": "image"}, and which image it is goes into the list.
Status take_pictures(Json& content, size_t given, std::vector<size_t>& images) {
  for (Json& part : content) {
    if (!is_picture(part)) continue;
    size_t index = images.empty() ? 0 : images.back() + 1;
    if (const auto at = part.find("index"); at != part.end()) {
      if (!at->is_number_unsigned()) return invalid("messages: the index of an image part must be 0 or more");
      index = at->get<size_t>();
    }
    if (index >= given) {
      return invalid("messages: an image part refers to image " + std::to_string(index) + ", and " +
                     std::to_string(given) + " were given");
    }
    images.push_back(index);
    part = Json{{"type", "image"}};
  }
  return {};
}

Json flat(const Json& content, const std::string& placeholder) {
  std::string text;
  for (const Json& part : content) {
    if (is_picture(part)) {
      text += placeholder + "\n";
    } else if (part.is_object() && part.contains("text") && part["text"].is_string()) {
      text += part["text"].get<std::string>();
    } else {
      return content;  // not for us to understand: the template says so
    }
  }
  return text;
}

}  // namespace

ContentShape content_shape(std::string_view source) {
  if (source.find("image") == std::string_view::npos) return ContentShape::text;
  const bool asks = source.find("is string") != std::string_view::npos ||
                    source.find("is not string") != std::string_view::npos;
  return asks ? ContentShape::either : ContentShape::list;
}

Result<std::string> chat_messages(const Request& request, ContentShape shape,
                                  const std::string& placeholder, std::vector<size_t>& images) {
  if (placeholder.empty() && !request.messages_json.empty()) return request.messages_json;
  TR_ASSIGN(Json messages, messages_of(request));
  for (Json& message : messages) {
    if (!message.is_object() || !message.contains("content")) continue;
    Json& content = message["content"];
    if (content.is_array()) {
      TR_TRY(take_pictures(content, request.images.size(), images));
      if (shape == ContentShape::text) content = flat(content, placeholder);
    } else if (content.is_string() && shape == ContentShape::list && !placeholder.empty()) {
      content = Json::array({{{"type", "text"}, {"text", content}}});
    }
  }
  for (size_t i = 0; i < request.images.size() && !images.empty(); ++i) {
    if (std::find(images.begin(), images.end(), i) != images.end()) continue;
    return invalid("messages: image " + std::to_string(i) + " was given, and no part refers to it");
  }
  if (!images.empty() && placeholder.empty()) {
    return unsupported("messages: this model takes text only, and a message holds an image");
  }
  try {
    return messages.dump();
  } catch (const Json::exception&) {
    return invalid("messages: the text is not valid UTF-8");
  }
}

size_t count_places(std::string_view text, std::string_view placeholder) {
  if (placeholder.empty()) return 0;
  size_t places = 0;
  for (size_t at = text.find(placeholder); at != std::string_view::npos;
       at = text.find(placeholder, at + placeholder.size())) {
    ++places;
  }
  return places;
}

Status places_disagree(size_t places, size_t images, const PictureText& pictures) {
  return invalid("prompt: it has " + std::to_string(places) + " places for pictures (\"" +
                 pictures.placeholder + "\"), and " + std::to_string(images) +
                 " pictures were given; let each picture have one place, and write the placeholder "
                 "nowhere else");
}

Status expand(std::string& text, const PictureText& pictures, std::span<const size_t> images) {
  if (pictures.placeholder.empty()) return {};
  const size_t places = count_places(text, pictures.placeholder);
  if (places != images.size()) return places_disagree(places, images.size(), pictures);
  if (places == 0) return {};
  std::string out;
  size_t from = 0;
  for (const size_t image : images) {
    const size_t at = text.find(pictures.placeholder, from);
    out.append(text, from, at - from);
    if (image >= pictures.expanded.size()) {
      return invalid("prompt: a part refers to image " + std::to_string(image) + ", and " +
                     std::to_string(pictures.expanded.size()) + " were given");
    }
    out += pictures.expanded[image];
    from = at + pictures.placeholder.size();
  }
  out.append(text, from);
  text = std::move(out);
  return {};
}

}  // namespace troupe::actors
