// Questions to the verdict core in the kernel, thousands by one run: most of them at the edges of
// prefixes and ports of a resolved world.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>

#include "backend-bpf/image.h"
#include "backend-bpf/program.h"
#include "ir/resolved.h"
#include "tests/backend-bpf/bpf_support.h"

namespace policyc::testing {

using bpf::WalkTuple;

inline constexpr std::size_t kTuples = 8192;

// Numbers that are equal everywhere.
struct Dice {
  std::mt19937 engine;
  std::uint32_t operator()() { return static_cast<std::uint32_t>(engine()); }
};

// A walker that stays loaded while its tables change.
class Walker {
 public:
  explicit Walker(const bpf::SizeClass& sizes) : sizes_(sizes) {
    const auto objects =
        bpf::compile_c(*bpf::find_clang_module(), {bpf::walker_text(sizes, kTuples)});
    if (!objects) throw std::runtime_error(objects.error());
    auto loaded = bpf::LoadedObject::load(objects->front(), {});
    if (!loaded) throw std::runtime_error(loaded.error());
    object_ = std::make_unique<bpf::LoadedObject>(std::move(*loaded));
    map_ = static_cast<char*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED,
                                   object_->map_descriptor(bpf::kWalkMap), 0));
    if (map_ == MAP_FAILED) throw std::runtime_error("the walker's map cannot be mapped");
  }
  Walker(const Walker&) = delete;
  Walker& operator=(const Walker&) = delete;
  ~Walker() { munmap(map_, kSize); }

  const bpf::SizeClass& sizes() const { return sizes_; }

  // All answers, by one run.
  void walk(const bpf::MapValue& node, const bpf::MapValue& policy,
            std::vector<WalkTuple>& tuples) {
    ASSERT_TRUE(object_->write(node));
    ASSERT_TRUE(object_->write(policy));
    std::memset(map_, 0, bpf::kWalkHeader);
    std::memcpy(map_ + bpf::kWalkHeader, tuples.data(), sizeof(WalkTuple) * kTuples);
    const std::vector<std::uint8_t> frame(64);
    const auto run = object_->run(bpf::kWalkProgram, frame, kTuples);
    ASSERT_TRUE(run) << run.error();
    std::memcpy(tuples.data(), map_ + bpf::kWalkHeader, sizeof(WalkTuple) * kTuples);
  }

 private:
  static constexpr std::size_t kSize = bpf::kWalkHeader + sizeof(WalkTuple) * kTuples;
  bpf::SizeClass sizes_;
  std::unique_ptr<bpf::LoadedObject> object_;
  char* map_ = nullptr;
};

inline ir::IpAddress moved(ir::IpAddress ip, int by) {
  for (int i = (ip.bits() / 8) - 1; i >= 0; --i) {
    const int sum = ip.bytes[static_cast<std::size_t>(i)] + by;
    ip.bytes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(sum);
    if (sum >= 0 && sum <= 255) break;
    by = sum < 0 ? -1 : 1;
  }
  return ip;
}

// An address at or near an edge of a prefix, or anywhere.
inline ir::IpAddress some_address(const ir::NodeView& view, Dice& random) {
  const ir::Prefix& prefix = view.ipcache[random() % view.ipcache.size()].first;
  ir::IpAddress ip = prefix.address;
  const unsigned kind = random() % 5;
  if (kind == 0) return moved(ip, -1);
  if (kind == 1) return ip;
  for (int bit = prefix.length; bit < ip.bits(); ++bit) {
    if (kind == 4 && random() % 2 == 0) continue;
    ip.bytes[static_cast<std::size_t>(bit) / 8] |= static_cast<std::uint8_t>(0x80U >> (bit % 8));
  }
  return kind == 3 ? moved(ip, 1) : ip;
}

inline WalkTuple some_tuple(const ir::NodeView& view, const ir::ResolvedEndpoint& endpoint,
                            Dice& random) {
  WalkTuple t;
  const ir::IpAddress ip = some_address(view, random);
  t.address = ip.bytes;
  t.family = ip.family == ir::Family::V4 ? 4 : 6;
  t.direction = static_cast<std::uint8_t>(random() % 2);
  const ir::PolicyTable& table = t.direction == 0 ? *endpoint.ingress : *endpoint.egress;
  const ir::L4Key edge = table.column_begin[random() % table.columns()];
  t.protocol = ir::class_protocol(static_cast<ir::ProtocolClass>(edge >> 16U));
  if (t.protocol == 0 || random() % 8 == 0) t.protocol = static_cast<std::uint8_t>(random());
  const unsigned kind = random() % 4;
  t.port = kind == 3 ? random() & 0xFFFFU : (edge + kind - 1) & 0xFFFFU;
  if (ir::protocol_class(t.protocol) == ir::kOther) t.port = 0;
  if (random() % 16 == 0) {
    t.fragment = 1;
    t.port = 0;
  }
  return t;
}

}  // namespace policyc::testing
