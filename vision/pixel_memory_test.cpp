// Pieces are used again, and what waits to be used again stays bounded.
#include "vision/pixel_memory.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace troupe::vision {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// What earlier pictures left goes first: pieces as large as all that may wait push it out.
void forget_spares() {
  free_pixels(allocate_pixels(kSpareBytes), kSpareBytes);
}

TEST(PixelMemory, FreedPiecesServeTheNextPicture) {
  forget_spares();
  void* const page = allocate_pixels(51 * kMiB);
  free_pixels(page, 51 * kMiB);
  EXPECT_GE(pixel_memory().spare, 51 * kMiB);
  // A page that is a little smaller fits the same piece.
  void* const next = allocate_pixels(50 * kMiB);
  EXPECT_EQ(next, page);
  EXPECT_EQ(pixel_memory().spare, 0U);
  free_pixels(next, 50 * kMiB);
}

TEST(PixelMemory, SmallPiecesAreNotKept) {
  forget_spares();
  const PixelMemory before = pixel_memory();
  free_pixels(allocate_pixels(kLargePiece - 1), kLargePiece - 1);
  EXPECT_EQ(pixel_memory().spare, before.spare);
}

TEST(PixelMemory, SparesStayBounded) {
  std::vector<void*> pages;
  for (int i = 0; i < 40; ++i) pages.push_back(allocate_pixels(10 * kMiB));
  const size_t used = pixel_memory().used;
  EXPECT_GE(used, 400 * kMiB);
  for (void* page : pages) {
    free_pixels(page, 10 * kMiB);
    const PixelMemory now = pixel_memory();
    EXPECT_LE(now.spare, std::max(kSpareBytes, now.used / 4));
  }
  EXPECT_LE(pixel_memory().spare, kSpareBytes);
  EXPECT_LE(pixel_memory().used, used - 400 * kMiB);
}

TEST(PixelMemory, ThreadsNeverShareAPiece) {
  const PixelMemory before = pixel_memory();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int round = 0; round < 200; ++round) {
        const size_t bytes = kLargePiece * (1 + random() % 4);
        auto* const at = static_cast<unsigned char*>(allocate_pixels(bytes));
        std::memset(at, t, 4096);
        std::memset(at + bytes - 4096, t, 4096);
        std::this_thread::yield();
        ASSERT_EQ(at[0], t);
        ASSERT_EQ(at[bytes - 1], t);
        free_pixels(at, bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pixel_memory().used, before.used);
  EXPECT_LE(pixel_memory().spare, kSpareBytes);
}

}  // namespace
}  // namespace troupe::vision
