#include "verifier/request_language.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace policyc {
namespace {

using ir::Dfa;
using ir::HeaderMatch;

constexpr std::size_t kMostPieces = 4096;

// Methods and paths that go together.
const std::vector<std::pair<Dfa, Dfa>>& any_request_line() {
  static const std::vector<std::pair<Dfa, Dfa>> lines = {
      {*Dfa::from_regex(kAnyMethod), *Dfa::from_regex(kAnyPath)},
      {*Dfa::from_regex(kServerMethod), *Dfa::from_regex(kServerPath)}};
  return lines;
}
const Dfa& any_host() {
  static const Dfa dfa = *Dfa::from_regex(kAnyHost);
  return dfa;
}

Expected<Dfa> part(const std::string& regex) {
  if (regex.empty()) return Dfa::everything();
  auto dfa = Dfa::from_regex(regex);
  if (!dfa) return Error{fmt::format("`{}`: {}", regex, dfa.error())};
  return dfa;
}

// A shortest text; where it cannot be ASCII, one that can be seen on a screen, if there is one.
std::string readable(const Dfa& dfa) {
  static const Dfa visible = *Dfa::from_regex(R"([!-~\x{a1}-\x{2af}]*)");
  std::string out = *dfa.witness();
  if (std::all_of(out.begin(), out.end(), [](char c) { return c > ' ' && c <= '~'; })) return out;
  const auto better = Dfa::intersect(dfa, visible);
  return better && !better->empty() ? *better->witness() : out;
}

bool less(const HeaderMatch& a, const HeaderMatch& b) {
  return std::tie(a.name, a.value) < std::tie(b.name, b.value);
}
bool same(const HeaderMatch& a, const HeaderMatch& b) {
  return a.name == b.name && a.value == b.value;
}

}  // namespace

RequestLanguage RequestLanguage::everything() {
  RequestLanguage out;
  for (const auto& [method, path] : any_request_line()) {
    out.pieces_.push_back({method, path, any_host(), {}});
  }
  return out;
}

Expected<std::vector<RequestLanguage::Piece>> RequestLanguage::pieces(const std::string& method,
                                                                      const std::string& path,
                                                                      const std::string& host) {
  const auto methods = part(method), paths = part(path), hosts = part(host);
  for (const auto* p : {&methods, &paths, &hosts}) {
    if (!*p) return Error{p->error()};
  }
  std::vector<Piece> out;
  for (const auto& [any_method, any_path] : any_request_line()) {
    auto m = Dfa::intersect(*methods, any_method);
    auto p = Dfa::intersect(*paths, any_path);
    auto h = Dfa::intersect(*hosts, any_host());
    for (const auto* of : {&m, &p, &h}) {
      if (!*of) return Error{of->error()};
    }
    if (m->empty() || p->empty() || h->empty()) continue;
    out.push_back({std::move(*m), std::move(*p), std::move(*h), {}});
  }
  return out;
}

Expected<RequestLanguage> RequestLanguage::of(const std::vector<ir::HttpRule>& rules) {
  RequestLanguage out;
  for (const ir::HttpRule& rule : rules) {
    if (!rule.symbol.empty()) return Error{"a placeholder: " + rule.symbol};
    auto pieces_of_rule = pieces(rule.method, rule.path, rule.host);
    if (!pieces_of_rule) return Error{pieces_of_rule.error()};
    std::vector<HeaderMatch> headers;
    bool matches_nothing = false;
    for (const HeaderMatch& h : rule.headers) {
      // With an action a header never decides; a secret that nobody can read matches nothing.
      matches_nothing = matches_nothing || (h.secret && !h.value);
      if (h.action == ir::HeaderAction::None) headers.push_back(h);
    }
    if (matches_nothing) continue;
    std::sort(headers.begin(), headers.end(), less);
    for (Piece& piece : *pieces_of_rule) {
      piece.headers = headers;
      out.pieces_.push_back(std::move(piece));
    }
  }
  return out;
}

Expected<RequestLanguage> RequestLanguage::of(const ir::ProxyFilter* filter) {
  if (filter == nullptr || filter->everything) return everything();
  return of(filter->http);
}

Expected<RequestLanguage> RequestLanguage::matching(const std::string& method,
                                                    const std::string& path,
                                                    const std::string& host) {
  ir::HttpRule rule;
  rule.method = method;
  rule.path = path;
  rule.host = host;
  return of(std::vector<ir::HttpRule>{rule});
}

Expected<RequestLanguage> RequestLanguage::intersect(const RequestLanguage& other) const {
  RequestLanguage out;
  for (const Piece& a : pieces_) {
    for (const Piece& b : other.pieces_) {
      auto method = Dfa::intersect(a.method, b.method);
      auto path = Dfa::intersect(a.path, b.path);
      auto host = Dfa::intersect(a.host, b.host);
      for (const auto* p : {&method, &path, &host}) {
        if (!*p) return Error{p->error()};
      }
      if (method->empty() || path->empty() || host->empty()) continue;
      Piece piece{std::move(*method), std::move(*path), std::move(*host), a.headers};
      piece.headers.insert(piece.headers.end(), b.headers.begin(), b.headers.end());
      std::sort(piece.headers.begin(), piece.headers.end(), less);
      piece.headers.erase(std::unique(piece.headers.begin(), piece.headers.end(), same),
                          piece.headers.end());
      out.pieces_.push_back(std::move(piece));
      if (out.pieces_.size() > kMostPieces) return Error{"too many combinations of rules"};
    }
  }
  return out;
}

Expected<RequestLanguage> RequestLanguage::subtract(const RequestLanguage& other) const {
  std::vector<Piece> left = pieces_;
  for (const Piece& b : other.pieces_) {
    std::vector<Piece> next;
    for (Piece& a : left) {
      // A rule that wants headers which this piece does not send matches none of its requests.
      const bool meets = std::all_of(b.headers.begin(), b.headers.end(), [&](const HeaderMatch& h) {
        return std::any_of(a.headers.begin(), a.headers.end(), [&](const HeaderMatch& have) {
          return have.name == h.name && (!h.value || have.value == h.value);
        });
      });
      if (!meets) {
        next.push_back(std::move(a));
        continue;
      }
      // Outside by method; inside by method and outside by path; inside by both, outside by host.
      const auto cut = [&](Dfa Piece::*which) -> std::optional<Error> {
        auto outside = Dfa::subtract(a.*which, b.*which);
        if (!outside) return Error{outside.error()};
        if (!outside->empty()) {
          Piece piece = a;
          piece.*which = std::move(*outside);
          next.push_back(std::move(piece));
        }
        auto inside = Dfa::intersect(a.*which, b.*which);
        if (!inside) return Error{inside.error()};
        a.*which = std::move(*inside);
        return std::nullopt;
      };
      for (const auto which : {&Piece::method, &Piece::path, &Piece::host}) {
        if (auto error = cut(which)) return *error;
        if ((a.*which).empty()) break;
      }
      if (next.size() > kMostPieces) return Error{"too many combinations of rules"};
    }
    left = std::move(next);
  }
  RequestLanguage out;
  out.pieces_ = std::move(left);
  return out;
}

std::optional<ir::HttpRequest> RequestLanguage::witness() const {
  if (pieces_.empty()) return std::nullopt;
  const Piece& p = pieces_.front();
  ir::HttpRequest out;
  // Methods that people know read best.
  for (const char* known : {"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"}) {
    if (out.method.empty() && p.method.matches(known)) out.method = known;
  }
  if (out.method.empty()) out.method = *p.method.witness();
  out.path = readable(p.path);
  out.host = *p.host.witness();
  for (const HeaderMatch& h : p.headers) out.headers.emplace_back(h.name, h.value.value_or("x"));
  return out;
}

}  // namespace policyc
