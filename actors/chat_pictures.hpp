// Pictures in messages: from OpenAI's content parts to what a chat template wants, and from the
// placeholders in its text to the text that each picture takes.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "actors/text_house.hpp"
#include "base/request.hpp"
#include "base/status.hpp"

namespace troupe::actors {

// What a template reads a message's content as. `either`: as it was given.
enum class ContentShape : uint8_t { text, list, either };
// By its source: templates that know pictures mention them, those that take strings too ask for that.
ContentShape content_shape(std::string_view source);

// The messages as JSON for the template; `images`: which image of the request each image part is, in
// order. Parts without an index take the next one.
Result<std::string> chat_messages(const Request& request, ContentShape shape,
                                  const std::string& placeholder, std::vector<size_t>& images);

size_t count_places(std::string_view text, std::string_view placeholder);
// Puts each picture's text into its placeholder.
Status expand(std::string& text, const PictureText& pictures, std::span<const size_t> images);
Status places_disagree(size_t places, size_t images, const PictureText& pictures);

}  // namespace troupe::actors
