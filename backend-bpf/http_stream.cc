#include "backend-bpf/http_stream.h"

#include <algorithm>
#include <charconv>

#include "ir/base/text.h"

namespace policyc::bpf {
namespace {

constexpr std::size_t kMaxHead = 64U << 10U;
constexpr std::size_t kMaxEarly = 256;

const std::string* header(const ir::HttpRequest& request, std::string_view name) {
  for (const auto& [key, value] : request.headers) {
    if (lower(key) == name) return &value;
  }
  return nullptr;
}

bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

}  // namespace

std::optional<ir::HttpRequest> parse_http_head(std::string_view head) {
  const std::size_t line_end = std::min(head.find("\r\n"), head.size());
  std::string_view line = head.substr(0, line_end);
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return std::nullopt;
  const std::string_view version = line.substr(last + 1);
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return std::nullopt;
  ir::HttpRequest out;
  out.method = std::string(line.substr(0, first));
  out.path = std::string(line.substr(first + 1, last - first - 1));
  if (!is_token(out.method) || out.path.empty()) return std::nullopt;
  // Absolute form: the authority goes to the host.
  if (const std::size_t scheme = out.path.find("://");
      scheme != std::string::npos && out.path[0] != '/') {
    const std::size_t slash = out.path.find('/', scheme + 3);
    out.host = out.path.substr(scheme + 3, slash == std::string::npos ? slash : slash - scheme - 3);
    out.path = slash == std::string::npos ? "/" : out.path.substr(slash);
  }
  std::size_t at = line_end + 2;
  while (at < head.size()) {
    const std::size_t end = std::min(head.find("\r\n", at), head.size());
    const std::string_view field = head.substr(at, end - at);
    at = end + 2;
    const std::size_t colon = field.find(':');
    if (colon == std::string_view::npos || !is_token(field.substr(0, colon))) return std::nullopt;
    std::string_view value = field.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t'))
      value.remove_prefix(1);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
    out.headers.emplace_back(std::string(field.substr(0, colon)), std::string(value));
  }
  if (const std::string* host = header(out, "host"); host != nullptr && out.host.empty()) {
    out.host = *host;
  }
  return out;
}

std::vector<ir::HttpRequest> HttpStream::add(std::uint32_t sequence,
                                             const std::vector<std::uint8_t>& payload) {
  if (payload.empty() || broken_) return {};
  if (!next_) next_ = sequence;
  // Of two segments with one number the longer says more. Too many holes: nobody reads this stream.
  auto& kept = early_[sequence];
  if (kept.size() < payload.size()) kept = payload;
  // Append what follows without a hole; sequence numbers wrap, so compare by difference.
  for (bool grown = true; grown;) {
    grown = false;
    for (auto it = early_.begin(); it != early_.end(); ++it) {
      const std::uint32_t known = *next_ - it->first;  // bytes of the segment already seen
      if (known > 0x7FFFFFFFU) continue;               // begins beyond a hole
      if (known < it->second.size()) {
        buffer_.append(it->second.begin() + static_cast<std::ptrdiff_t>(known), it->second.end());
        *next_ += static_cast<std::uint32_t>(it->second.size()) - known;
      }
      early_.erase(it);
      grown = true;
      break;
    }
  }
  broken_ = early_.size() > kMaxEarly;
  return take_requests();
}

std::vector<ir::HttpRequest> HttpStream::take_requests() {
  std::vector<ir::HttpRequest> out;
  while (!buffer_.empty()) {
    if (body_left_ > 0) {
      const std::size_t n = std::min(body_left_, buffer_.size());
      buffer_.erase(0, n);
      body_left_ -= n;
      continue;
    }
    if (chunked_) {
      // Chunk by chunk; the last has size zero and ends with an empty line.
      const std::size_t end = buffer_.find("\r\n");
      if (end == std::string::npos) break;
      if (end == 0) {  // the line break behind a chunk's data
        buffer_.erase(0, 2);
        continue;
      }
      std::size_t size = 0;
      auto [rest, error] = std::from_chars(buffer_.data(), buffer_.data() + end, size, 16);
      if (error != std::errc() || size > (1U << 30U)) {
        broken_ = true;
        break;
      }
      if (size == 0) {
        const std::size_t last = buffer_.find("\r\n\r\n");
        if (last == std::string::npos) break;
        buffer_.erase(0, last + 4);
        chunked_ = false;
      } else {
        buffer_.erase(0, end + 2);
        body_left_ = size;
      }
      continue;
    }
    const std::size_t end = buffer_.find("\r\n\r\n");
    if (end == std::string::npos) {
      broken_ = buffer_.size() > kMaxHead;
      break;
    }
    auto request = parse_http_head(std::string_view(buffer_).substr(0, end));
    if (!request) {
      broken_ = true;
      break;
    }
    buffer_.erase(0, end + 4);
    if (const std::string* length = header(*request, "content-length")) {
      auto [rest, error] =
          std::from_chars(length->data(), length->data() + length->size(), body_left_);
      broken_ = error != std::errc();
    }
    if (const std::string* coding = header(*request, "transfer-encoding")) {
      chunked_ = lower(*coding).find("chunked") != std::string::npos;
    }
    out.push_back(std::move(*request));
    if (broken_) break;
  }
  return out;
}

std::optional<std::string> parse_dns_query(const std::vector<std::uint8_t>& message) {
  constexpr std::size_t kHeader = 12;
  if (message.size() < kHeader + 5) return std::nullopt;
  const bool response = (message[2] & 0x80U) != 0;
  const unsigned questions = (unsigned{message[4]} << 8U) | message[5];
  if (response || questions == 0) return std::nullopt;
  std::string name;
  std::size_t at = kHeader;
  while (at < message.size() && message[at] != 0) {
    const std::size_t length = message[at];
    if (length > 63 || at + 1 + length >= message.size()) return std::nullopt;
    if (!name.empty()) name += '.';
    name.append(message.begin() + static_cast<std::ptrdiff_t>(at + 1),
                message.begin() + static_cast<std::ptrdiff_t>(at + 1 + length));
    at += 1 + length;
  }
  if (at >= message.size()) return std::nullopt;
  return name;
}

}  // namespace policyc::bpf
