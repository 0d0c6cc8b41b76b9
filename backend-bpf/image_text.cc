#include "backend-bpf/image_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "backend-bpf/image.h"

namespace policyc::bpf {
namespace {

std::string print(const IdentityImage& image) {
  const std::vector<AddressSpan> spans = address_spans(image);
  std::string out = fmt::format("identities: {} identities, {} stretches of addresses\n",
                                image.numbers.size(), spans.size());
  for (const AddressSpan& s : spans) {
    out += fmt::format("  from {:<39} ", s.first.str());
    out += s.leaf == 0
               ? "nobody\n"
               : fmt::format("identity {} (index {})\n", image.numbers[s.leaf - 1], s.leaf - 1);
  }
  return out;
}

std::string print(const ClassImage& image) {
  std::map<std::uint32_t, std::vector<std::size_t>> members;
  for (std::size_t i = 0; i < image.class_of.size(); ++i) members[image.class_of[i]].push_back(i);
  std::string out = fmt::format("classes: {} classes of {} identities, {} policies\n",
                                image.classes, image.class_of.size(), image.slots);
  for (const auto& [number, indices] : members) {
    out += fmt::format("  class {}: identity index {}\n", number, fmt::join(indices, " "));
    for (std::size_t slot = 0; slot < image.slots; ++slot) {
      out += fmt::format("    policy {}: ingress row {}, egress row {}\n", slot,
                         image.row(slot, 0, number), image.row(slot, 1, number));
    }
  }
  return out;
}

// Columns of a row that say the same, as "TCP/80-443".
std::string ports(ir::L4Key first, ir::L4Key last) {
  const auto of_class = static_cast<ir::ProtocolClass>(first >> 16U);
  if (of_class == ir::kOther) return "other protocols";
  const ir::L4Key from = first & 0xFFFFU, to = last & 0xFFFFU;
  const std::string name = ir::protocol_name(ir::class_protocol(of_class));
  if (from == 0 && to == 0xFFFFU) return name;
  return from == to ? fmt::format("{}/{}", name, from) : fmt::format("{}/{}-{}", name, from, to);
}

std::string print(const PolicyImage& image) {
  // Read through classes of which each leads to the row of its number.
  ClassImage classes;
  classes.slots = 1;
  classes.classes = std::max({image.direction[0].rows, image.direction[1].rows, 1U});
  for (std::uint32_t c = 1; c <= classes.classes; ++c) classes.class_of.push_back(c);
  for (const DirectionInfo& d : image.direction) {
    for (std::uint32_t c = 0; c < classes.classes; ++c) {
      classes.rows.push_back(static_cast<std::uint16_t>(d.rows == 0 ? 0 : std::min(c, d.rows - 1)));
    }
  }
  const auto decoded = decode_policy(image, classes, 0);
  std::string out = fmt::format("policy: {} verdicts, {}\n", image.records.size(),
                                image.intervals() ? "rows are intervals" : "rows are cells");
  for (std::uint32_t i = 1; i <= image.records.size(); ++i) {
    const ir::VerdictRecord r = decode_record(image, i);
    const RecordWire& wire = image.records[i - 1];
    out += fmt::format("  verdict {}: {} ({})", i, ir::verdict_name(r.verdict),
                       ir::reason_name(r.reason));
    if (!r.parser.empty()) out += ", proxy " + r.parser;
    if (r.priority != 0) out += fmt::format(", priority {}", r.priority);
    if (r.auth) out += fmt::format(", authentication {}", ir::auth_name(r.auth->type));
    if (wire.drop != 0) out += fmt::format(", drop reason -{}", wire.drop);
    if (wire.filter != 0) out += fmt::format(", HTTP filter {}", wire.filter);
    out += '\n';
  }
  if (!decoded) return out + "  " + decoded.error() + '\n';
  for (const auto& [name, table] :
       {std::pair{"ingress", &decoded->ingress}, std::pair{"egress", &decoded->egress}}) {
    out += fmt::format("{}: {}, {} rows\n", name, table->enforced ? "enforced" : "not enforced",
                       table->classes);
    const std::size_t columns = table->columns();
    for (std::uint32_t row = 0; row < table->classes; ++row) {
      out += fmt::format("  row {}:", row);
      for (std::size_t c = 0; c < columns;) {
        std::size_t end = c + 1;
        const ir::L4Key first = table->column_begin[c];
        while (end < columns && table->column_begin[end] >> 16U == first >> 16U &&
               table->cells[row * columns + end] == table->cells[row * columns + c]) {
          ++end;
        }
        const ir::L4Key behind = end < columns ? table->column_begin[end] : ir::kL4KeyEnd;
        out += fmt::format("{} {} {}", c == 0 ? "" : ",", ports(first, behind - 1),
                           table->cells[row * columns + c] + 1);
        c = end;
      }
      out += '\n';
    }
  }
  return out;
}

}  // namespace

Expected<std::string> print_image_file(std::string_view bytes) {
  ImageHeader header{};
  if (bytes.size() >= sizeof header) std::memcpy(&header, bytes.data(), sizeof header);
  const auto text = [](const auto& image) -> Expected<std::string> {
    if (!image) return Error{image.error()};
    return print(*image);
  };
  if (std::memcmp(header.magic, kImageMagic, sizeof kImageMagic) == 0) {
    switch (static_cast<ImageKind>(header.kind)) {
      case ImageKind::Identities:
        return text(read_identity_image(bytes));
      case ImageKind::Policy:
        return text(read_policy_image(bytes));
      case ImageKind::Classes:
        return text(read_class_image(bytes));
    }
  }
  return Error{"no image that `policyc compile` writes"};
}

}  // namespace policyc::bpf
