// A map from request ids to what lives as long as they do. Ids are given out one after the other, so
// the id itself is the hash: neighbours in age are neighbours in memory, and a look-up in a steady
// crowd is one line of cache. Linear probing; what follows a gap moves up. Values stand in chunks,
// side by side, and stay where they are; one that is erased is T{} until its place is used again.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "base/request.hpp"

namespace troupe::engine {

template <class T>
class RequestMap {
 public:
  // Null: there is none.
  [[nodiscard]] T* find(RequestId id) const {
    for (size_t i = id & mask_; places_[i].id != 0; i = (i + 1) & mask_) {
      if (places_[i].id == id) return places_[i].value;
    }
    return nullptr;
  }
  // Takes the place of what had this id before. id != 0.
  T& put(RequestId id, T value) {
    if (2 * (size_ + 1) > places_.size()) grow();
    Place& place = place_for(id);
    size_ += place.id == 0 ? 1 : 0;
    if (place.id == 0) place.value = take_room();
    place.id = id;
    *place.value = std::move(value);
    return *place.value;
  }
  void erase(RequestId id) {
    size_t gap = id & mask_;
    while (places_[gap].id != id) {
      if (places_[gap].id == 0) return;
      gap = (gap + 1) & mask_;
    }
    T* const last = places_[gap].value;
    for (size_t i = (gap + 1) & mask_; places_[i].id != 0; i = (i + 1) & mask_) {
      if (((i - places_[i].id) & mask_) < ((i - gap) & mask_)) continue;  // it would be before its home
      places_[gap] = places_[i];
      gap = i;
    }
    places_[gap] = {};
    --size_;
    free_.push_back(last);
    *last = T{};  // now that the map is sound
    if (size_ == 0 && chunks_.size() > kKeptChunks) shrink();
  }
  [[nodiscard]] size_t size() const { return size_; }

 private:
  struct Place {
    RequestId id = 0;
    T* value = nullptr;
  };
  static constexpr size_t kChunk = 64, kKeptChunks = 4;

  // Nobody is left of a crowd: its room goes.
  void shrink() {
    chunks_.clear();
    free_ = {};
    places_ = std::vector<Place>(64);
    mask_ = places_.size() - 1;
  }

  T* take_room() {
    if (free_.empty()) {
      chunks_.push_back(std::make_unique<T[]>(kChunk));
      for (size_t i = kChunk; i-- > 0;) free_.push_back(&chunks_.back()[i]);
    }
    T* const room = free_.back();
    free_.pop_back();
    return room;
  }

  Place& place_for(RequestId id) {
    size_t i = id & mask_;
    while (places_[i].id != 0 && places_[i].id != id) i = (i + 1) & mask_;
    return places_[i];
  }
  void grow() {
    std::vector<Place> old(2 * places_.size());
    old.swap(places_);
    mask_ = places_.size() - 1;
    for (const Place& place : old) {
      if (place.id != 0) place_for(place.id) = place;
    }
  }

  std::vector<std::unique_ptr<T[]>> chunks_;
  std::vector<T*> free_;
  std::vector<Place> places_{64};
  size_t mask_ = 63;
  size_t size_ = 0;
};

}  // namespace troupe::engine
