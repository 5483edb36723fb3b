#include "wire/request_codec.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "base/limits.hpp"
#include "wire/image_codec.hpp"
#include "wire/reader.hpp"
#include "wire/sampling_codec.hpp"
#include "wire/writer.hpp"

namespace troupe::wire {
namespace {

static_assert(std::endian::native == std::endian::little, "blobs of ids are little-endian");

constexpr size_t kInlineTokens = 1024;  // longer lists of ids travel as blobs
constexpr size_t kBlobsMax = 4096;
constexpr int64_t kDeadlineMax_ms = int64_t{365} * 24 * 3600 * 1000;

// ---- writing ----

void write_part(Writer& to, const PromptPart& part, size_t first_image,
                std::vector<SharedBytes>& blobs) {
  to.array(2);
  to.number(static_cast<uint64_t>(part.kind));
  switch (part.kind) {
    case PromptPart::Kind::text:
      to.text(part.text);
      return;
    case PromptPart::Kind::image:
      to.number(first_image + part.image);
      return;
    case PromptPart::Kind::tokens:
      break;
  }
  if (part.tokens.size() > kInlineTokens) {
    to.number(blobs.size());
    blobs.push_back(tokens_blob(part.tokens));
    return;
  }
  to.array(part.tokens.size());
  for (const int32_t token : part.tokens) to.integer(token);
}

void write_parts(Writer& to, const std::vector<PromptPart>& parts,
                 std::vector<SharedBytes>& blobs) {
  to.array(parts.size());
  for (const PromptPart& part : parts) write_part(to, part, 0, blobs);
}

// ---- reading ----

void read_part(Reader& from, PromptPart& part, const Limits& limits, size_t message, size_t at,
               RequestDraft& draft) {
  if (from.array(2) != 2) from.fail("a part is a list of kind and value");
  const uint64_t kind = from.number(2);
  if (!from.ok()) return;
  part.kind = static_cast<PromptPart::Kind>(kind);
  if (part.kind == PromptPart::Kind::text) {
    part.text = from.text();
  } else if (part.kind == PromptPart::Kind::image) {
    part.image = from.number(kBlobsMax);
  } else if (from.next_is_array()) {
    const size_t count = from.array(limits.prompt_tokens);
    part.tokens.reserve(from.ok() ? count : 0);
    for (size_t i = 0; i < count && from.ok(); ++i) part.tokens.push_back(from.int32(0));
  } else {
    draft.tokens.push_back({message, at, from.number(kBlobsMax)});
  }
}

std::vector<PromptPart> read_parts(Reader& from, const Limits& limits, size_t message,
                                   RequestDraft& draft) {
  std::vector<PromptPart> parts;
  const size_t count = from.array(size_t{1} << 16);
  for (size_t i = 0; i < count && from.ok(); ++i) {
    read_part(from, parts.emplace_back(), limits, message, i, draft);
  }
  return parts;
}

void read_messages(Reader& from, const Limits& limits, RequestDraft& draft) {
  const size_t count = from.array(size_t{1} << 16);
  for (size_t i = 0; i < count && from.ok(); ++i) {
    if (from.array(2) != 2) from.fail("a message is a list of role and parts");
    PromptMessage& message = draft.request.messages.emplace_back();
    message.role = static_cast<Role>(from.number(static_cast<uint64_t>(Role::tool)));
    message.parts = read_parts(from, limits, i, draft);
  }
}

void read_images(Reader& from, const Limits& limits, RequestDraft& draft) {
  const size_t count = from.array(limits.images);
  for (size_t i = 0; i < count && from.ok(); ++i) {
    ImageInput& image = draft.request.images.emplace_back();
    read_image(from, kBlobsMax, image, draft.images.emplace_back(kBlobsMax));
  }
}

void read_constraint(Reader& from, Constraint& constraint) {
  if (from.array(2) != 2) from.fail("a constraint is a list of kind and text");
  constraint.kind =
      static_cast<ConstraintKind>(from.number(static_cast<uint64_t>(ConstraintKind::choice)));
  constraint.text = from.text();
}

bool read_text(Reader& from, uint64_t k, Request& request) {
  switch (k) {
    case key::request::messages_json:
      request.messages_json = from.text();
      return true;
    case key::request::tools_json:
      request.tools_json = from.text();
      return true;
    case key::request::documents_json:
      request.documents_json = from.text();
      return true;
    case key::request::template_kwargs_json:
      request.template_kwargs_json = from.text();
      return true;
    case key::request::adapter:
      request.adapter = from.text(limits::stop_string_bytes);
      return true;
    case key::request::client:
      request.client = from.text(limits::stop_string_bytes);
      return true;
    default:
      return false;
  }
}

void read_uploads(Reader& from, std::vector<Submit::Upload>& uploads) {
  for (size_t n = from.array(kBlobsMax); n > 0 && from.ok(); --n) {
    if (from.array(2) != 2) from.fail("an upload is a list of blob and size");
    Submit::Upload upload;
    upload.blob = from.number(kBlobsMax);
    upload.size = from.number(uint64_t{1} << 40);
    if (upload.size == 0) from.fail("an upload has no bytes");
    if (!uploads.empty() && upload.blob <= uploads.back().blob)
      from.fail("uploads do not rise by blob");
    uploads.push_back(upload);
  }
}

Status check_image(const ImageInput& image, size_t size, const std::string& name,
                   const Limits& limits) {
  if (size == 0) return invalid(name + " has no bytes");
  if (size > limits.image_bytes) {
    return limit_exceeded(name + " has " + std::to_string(size) + " bytes: this server takes " +
                          std::to_string(limits.image_bytes));
  }
  if (image.kind == ImageKind::encoded) return {};
  if (image.kind == ImageKind::embedding) {
    if (image.rows < 1 || image.hidden < 1)
      return invalid(name + " is an embedding without rows and hidden");
    const uint64_t width = image.type == EmbeddingType::f32 ? 4 : 2;
    const uint64_t bytes =
        static_cast<uint64_t>(image.rows) * static_cast<uint64_t>(image.hidden) * width;
    const int64_t cells = int64_t{image.grid[0]} * image.grid[1] * image.grid[2];
    if (bytes != size) {
      return invalid(name + " has " + std::to_string(size) +
                     " bytes: an embedding of this shape has " + std::to_string(bytes));
    }
    if (cells != 0 && cells != image.rows) return invalid(name + ": grid and rows do not agree");
    return {};
  }
  if (image.width < 1 || image.height < 1)
    return invalid(name + " has pixels without width and height");
  const uint64_t pixels = static_cast<uint64_t>(image.width) * static_cast<uint64_t>(image.height);
  if (pixels > limits.image_pixels) {
    return limit_exceeded(name + " has " + std::to_string(pixels) + " pixels: this server takes " +
                          std::to_string(limits.image_pixels));
  }
  constexpr std::array<int64_t, 5> kChannels = {3, 4, 3, 4, 1};  // by PixelFormat
  const int64_t channels = kChannels[static_cast<size_t>(image.format)];
  const bool planar = image.layout == PixelLayout::chw;
  const int64_t row = planar ? image.width : image.width * channels;
  const int64_t stride = image.row_stride == 0 ? row : image.row_stride;
  const int64_t rows = planar ? image.height * channels : image.height;
  if (stride < row) return invalid(name + ": row_stride is less than a row");
  const int64_t needed = stride * (rows - 1) + row;
  if (size >= static_cast<uint64_t>(needed)) return {};
  return invalid(name + " has " + std::to_string(size) + " bytes: its shape needs " +
                 std::to_string(needed));
}

}  // namespace

SharedBytes tokens_blob(std::vector<int32_t> tokens) {
  auto kept = std::make_shared<const std::vector<int32_t>>(std::move(tokens));
  const auto* data = reinterpret_cast<const std::byte*>(kept->data());
  const size_t size = kept->size() * sizeof(int32_t);
  return {std::move(kept), data, size};
}

Result<std::vector<int32_t>> tokens_of(std::string_view where, std::span<const std::byte> blob) {
  if (blob.size() % sizeof(int32_t) != 0) {
    return invalid(std::string(where) + ": " + std::to_string(blob.size()) +
                   " bytes are no list of 32-bit ids");
  }
  std::vector<int32_t> tokens(blob.size() / sizeof(int32_t));
  if (!tokens.empty()) std::memcpy(tokens.data(), blob.data(), blob.size());
  return tokens;
}

void write_request(Writer& writer, const Request& r, std::vector<SharedBytes>& blobs) {
  Writer::Map map(writer, Writer::Map::Size::large);
  if (r.task != Task::generate) map.key(key::request::task).number(static_cast<uint64_t>(r.task));
  if (!r.prompt.empty()) write_parts(map.key(key::request::prompt), r.prompt, blobs);
  if (!r.messages.empty()) {
    map.key(key::request::messages).array(r.messages.size());
    for (const PromptMessage& message : r.messages) {
      writer.array(2);
      writer.number(static_cast<uint64_t>(message.role));
      write_parts(writer, message.parts, blobs);
    }
  }
  put(map, key::request::messages_json, r.messages_json);
  put(map, key::request::tools_json, r.tools_json);
  put(map, key::request::documents_json, r.documents_json);
  put(map, key::request::template_kwargs_json, r.template_kwargs_json);
  if (!r.add_generation_prompt) map.key(key::request::add_generation_prompt).boolean(false);
  if (!r.add_special_tokens) map.key(key::request::add_special_tokens).boolean(false);
  if (!r.images.empty()) {
    map.key(key::request::images).array(r.images.size());
    for (const ImageInput& image : r.images) {
      write_image(writer, image, blobs.size());
      blobs.push_back(image.bytes);
    }
  }
  write_sampling(map.key(key::request::sampling), r.sampling);
  if (r.constraint.kind != ConstraintKind::none) {
    map.key(key::request::constraint).array(2);
    writer.number(static_cast<uint64_t>(r.constraint.kind));
    writer.text(r.constraint.text);
  }
  if (r.session != 0) map.key(key::request::session).number(r.session);
  put(map, key::request::adapter, r.adapter);
  if (r.priority != 0) map.key(key::request::priority).integer(r.priority);
  if (r.deadline_ns)
    map.key(key::request::deadline_ms).integer((*r.deadline_ns + 999'999) / 1'000'000);
  put(map, key::request::client, r.client);
}

RequestDraft read_request(Reader& reader, const Limits& limits) {
  RequestDraft draft;
  Request& r = draft.request;
  reader.each([&](uint64_t k) {
    switch (k) {
      case key::request::task:
        r.task = static_cast<Task>(reader.number(static_cast<uint64_t>(Task::encode_image)));
        return true;
      case key::request::prompt:
        r.prompt = read_parts(reader, limits, RequestDraft::kRawPrompt, draft);
        return true;
      case key::request::messages:
        read_messages(reader, limits, draft);
        return true;
      case key::request::add_generation_prompt:
        r.add_generation_prompt = reader.boolean();
        return true;
      case key::request::add_special_tokens:
        r.add_special_tokens = reader.boolean();
        return true;
      case key::request::images:
        read_images(reader, limits, draft);
        return true;
      case key::request::sampling:
        r.sampling = read_sampling(reader);
        return true;
      case key::request::constraint:
        read_constraint(reader, r.constraint);
        return true;
      case key::request::session:
        r.session = reader.number();
        return true;
      case key::request::priority:
        r.priority = reader.int32(-limits::priority, limits::priority);
        return true;
      case key::request::deadline_ms:
        r.deadline_ns = reader.integer(1, kDeadlineMax_ms) * 1'000'000;
        return true;
      default:
        return read_text(reader, k, r);
    }
  });
  if (!r.prompt.empty() + !r.messages.empty() + !r.messages_json.empty() > 1)
    reader.fail("a request has one of prompt (1), messages (2) and messages as JSON (3)");
  return draft;
}

Status check_blobs(const RequestDraft& draft, std::span<const size_t> sizes, const Limits& limits) {
  const auto there = [&](size_t blob, const std::string& name) -> Status {
    if (blob < sizes.size()) return {};
    return invalid(name + " is blob " + std::to_string(blob) + ": the message has " +
                   std::to_string(sizes.size()) + " of them");
  };
  uint64_t ids = 0;
  for (const RequestDraft::TokenBlob& token : draft.tokens) {
    TR_TRY(there(token.blob, "a list of ids"));
    if (sizes[token.blob] % sizeof(int32_t) != 0)
      return invalid("a list of ids is not a multiple of 4 bytes");
    ids += sizes[token.blob] / sizeof(int32_t);
  }
  if (ids > limits.prompt_tokens) {
    return limit_exceeded("the prompt has " + std::to_string(ids) + " ids: this server takes " +
                          std::to_string(limits.prompt_tokens));
  }
  for (size_t i = 0; i < draft.images.size(); ++i) {
    const std::string name = "image " + std::to_string(i);
    TR_TRY(there(draft.images[i], name));
    TR_TRY(check_image(draft.request.images[i], sizes[draft.images[i]], name, limits));
  }
  const auto images_exist = [&](const std::vector<PromptPart>& parts) -> Status {
    for (const PromptPart& part : parts) {
      if (part.kind != PromptPart::Kind::image || part.image < draft.images.size()) continue;
      return invalid("the prompt names image " + std::to_string(part.image) + ": the request has " +
                     std::to_string(draft.images.size()));
    }
    return {};
  };
  TR_TRY(images_exist(draft.request.prompt));
  for (const PromptMessage& message : draft.request.messages) TR_TRY(images_exist(message.parts));
  return {};
}

Request complete(RequestDraft draft, std::span<const SharedBytes> blobs) {
  for (const RequestDraft::TokenBlob& token : draft.tokens) {
    const SharedBytes& blob = blobs[token.blob];
    auto& parts = token.message == RequestDraft::kRawPrompt
                      ? draft.request.prompt
                      : draft.request.messages[token.message].parts;
    std::vector<int32_t>& ids = parts[token.part].tokens;
    ids.resize(blob.size / sizeof(int32_t));
    if (!ids.empty()) std::memcpy(ids.data(), blob.data, ids.size() * sizeof(int32_t));
  }
  for (size_t i = 0; i < draft.images.size(); ++i)
    draft.request.images[i].bytes = blobs[draft.images[i]];
  return std::move(draft.request);
}

Packed pack_submit(const Id128& id, uint32_t credit, const Request& request, const Limits& limits) {
  Packed packed;
  std::vector<SharedBytes> blobs;
  Writer writer(packed.body);
  Writer::Map map(writer);
  map.key(key::id).id(id);
  map.key(key::submit::credit).number(credit);
  write_request(map.key(key::submit::request), request, blobs);
  for (size_t i = 0; i < blobs.size(); ++i) {
    if (blobs[i].size <= limits.blob_bytes) {
      packed.frames.push_back(std::move(blobs[i]));
    } else {
      packed.uploads.emplace_back(i, std::move(blobs[i]));
    }
  }
  if (!packed.uploads.empty()) {
    map.key(key::submit::uploads).array(packed.uploads.size());
    for (const auto& [blob, bytes] : packed.uploads) {
      writer.array(2);
      writer.number(blob);
      writer.number(bytes.size);
    }
  }
  return packed;
}

Result<Submit> read_submit(std::string_view body, const Limits& limits) {
  Reader reader(body);
  Submit submit;
  bool named = false;
  reader.each([&](uint64_t k) {
    switch (k) {
      case key::id:
        submit.id = reader.id();
        named = true;
        return true;
      case key::submit::credit:
        submit.credit = static_cast<uint32_t>(std::min(reader.number(), kCreditMax));
        return true;
      case key::submit::request:
        submit.draft = read_request(reader, limits);
        return true;
      case key::submit::uploads:
        read_uploads(reader, submit.uploads);
        return true;
      default:
        return false;
    }
  });
  if (reader.ok() && !named) reader.fail("SUBMIT has no id (key 0)");
  if (!reader.ok()) return reader.status("SUBMIT");
  return submit;
}

}  // namespace troupe::wire
