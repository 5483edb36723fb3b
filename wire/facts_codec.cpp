#include "wire/facts_codec.hpp"

namespace troupe::wire {
namespace {

bool read_info_text(Reader& from, uint64_t k, EngineInfo& i) {
  switch (k) {
    case key::info::model:
      i.model = from.text();
      return true;
    case key::info::family:
      i.family = from.text();
      return true;
    case key::info::device:
      i.device = from.text();
      return true;
    case key::info::dtype:
      i.dtype = from.text();
      return true;
    case key::info::chat_template_origin:
      i.chat_template_origin = from.text();
      return true;
    case key::info::config_json:
      i.config_json = from.text();
      return true;
    default:
      return false;
  }
}

}  // namespace

void write_limits(Writer& to, const Limits& l) {
  Writer::Map map(to);
  map.key(key::limit::requests).number(l.requests);
  map.key(key::limit::body_bytes).number(l.body_bytes);
  map.key(key::limit::blob_bytes).number(l.blob_bytes);
  map.key(key::limit::image_bytes).number(l.image_bytes);
  map.key(key::limit::image_pixels).number(l.image_pixels);
  map.key(key::limit::images).number(l.images);
  map.key(key::limit::prompt_tokens).number(l.prompt_tokens);
  map.key(key::limit::sessions).number(l.sessions);
  map.key(key::limit::upload_bytes).number(l.upload_bytes);
  map.key(key::limit::questions).number(l.questions);
}

Limits read_limits(Reader& from) {
  Limits l;
  from.each([&](uint64_t k) {
    uint64_t* to = nullptr;
    switch (k) {
      case key::limit::requests:
        to = &l.requests;
        break;
      case key::limit::body_bytes:
        to = &l.body_bytes;
        break;
      case key::limit::blob_bytes:
        to = &l.blob_bytes;
        break;
      case key::limit::image_bytes:
        to = &l.image_bytes;
        break;
      case key::limit::image_pixels:
        to = &l.image_pixels;
        break;
      case key::limit::images:
        to = &l.images;
        break;
      case key::limit::prompt_tokens:
        to = &l.prompt_tokens;
        break;
      case key::limit::sessions:
        to = &l.sessions;
        break;
      case key::limit::upload_bytes:
        to = &l.upload_bytes;
        break;
      case key::limit::questions:
        to = &l.questions;
        break;
      default:
        return false;
    }
    *to = from.number(kCountMax);
    return true;
  });
  return l;
}

void write_info(Writer& to, const EngineInfo& i) {
  Writer::Map map(to, Writer::Map::Size::large);
  map.key(key::info::model).text(i.model);
  map.key(key::info::family).text(i.family);
  map.key(key::info::device).text(i.device);
  map.key(key::info::dtype).text(i.dtype);
  map.key(key::info::chat_template_origin).text(i.chat_template_origin);
  map.key(key::info::config_json).text(i.config_json);
  map.key(key::info::context_length).integer(i.context_length);
  map.key(key::info::vocab_size).integer(i.vocab_size);
  map.key(key::info::max_sequences).integer(i.max_sequences);
  map.key(key::info::images_max).integer(i.images_max);
  map.key(key::info::image_pixels_max).integer(i.image_pixels_max);
  map.key(key::info::weight_bytes).integer(i.weight_bytes);
  map.key(key::info::kv_bytes).integer(i.kv_bytes);
  map.key(key::info::kv_tokens).integer(i.kv_tokens);
  map.key(key::info::capabilities).number(i.capabilities);
  map.key(key::info::max_waiting).integer(i.max_waiting);
}

EngineInfo read_info(Reader& from) {
  EngineInfo i;
  from.each([&](uint64_t k) {
    switch (k) {
      case key::info::context_length:
        i.context_length = from.int32(0);
        return true;
      case key::info::vocab_size:
        i.vocab_size = from.int32(0);
        return true;
      case key::info::max_sequences:
        i.max_sequences = from.int32(0);
        return true;
      case key::info::images_max:
        i.images_max = from.int32(0);
        return true;
      case key::info::image_pixels_max:
        i.image_pixels_max = from.integer(0);
        return true;
      case key::info::weight_bytes:
        i.weight_bytes = from.integer(0);
        return true;
      case key::info::kv_bytes:
        i.kv_bytes = from.integer(0);
        return true;
      case key::info::kv_tokens:
        i.kv_tokens = from.integer(0);
        return true;
      case key::info::capabilities:
        i.capabilities = from.number();
        return true;
      case key::info::max_waiting:
        i.max_waiting = from.int32(0);
        return true;
      default:
        return read_info_text(from, k, i);
    }
  });
  return i;
}

}  // namespace troupe::wire
