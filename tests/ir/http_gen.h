// Random HTTP rule lists and request heads that come near to them.
#pragma once

#include <rapidcheck.h>

#include <set>
#include <string>
#include <vector>

#include "ir/flow.h"
#include "ir/policy_set.h"

namespace policyc::ir::testing {

inline std::string one_of(const std::vector<std::string>& choices) {
  return *rc::gen::elementOf(choices);
}

inline HttpRule some_rule() {
  HttpRule rule;
  rule.method = one_of({"", "GET", "GET|HEAD", "(?i)post", "[A-Z]+", "PUT", "OPTIONS$", "G.*"});
  rule.path = one_of({"", "/", "/api/.*", "/api/v1/users/[0-9]+", "/items/[a-z0-9-]{1,16}", ".*",
                      "/public(/.*)?", "/a/.*/b", ".*\\.html", "/q\\?id=[0-9]+", "^/x$|/y",
                      "/api/v[12]/(users|items)(\\?.*)?", "[^/]*", "/(?i)CaSe/.*", "(unclosed"});
  rule.host = one_of(
      {"", "", "", "b", "foo\\.example", ".*\\.example(:[0-9]+)?", "foo.example:8080", "[a-z]+"});
  const int headers = *rc::gen::weightedElement<int>({{6, 0}, {2, 1}, {1, 2}});
  for (int i = 0; i < headers; ++i) {
    HeaderMatch m;
    m.name = one_of({"x-key", "x-keys", "hostess"});
    if (*rc::gen::inRange(0, 3) > 0) m.value = one_of({"1", "a b", "", "yes", "yes "});
    rule.headers.push_back(m);
  }
  return rule;
}

inline std::vector<HttpRule> some_rules() {
  std::vector<HttpRule> out;
  const int count = *rc::gen::inRange(0, 5);
  for (int i = 0; i < count; ++i) out.push_back(some_rule());
  return out;
}

// A plain request: every part as http_head.h asks for it.
inline HttpRequest some_request() {
  HttpRequest request;
  request.method = one_of({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "GETX", "M-SEARCH"});
  request.path =
      one_of({"/", "/api/", "/api/v1/users/1", "/api/v1/users/12345", "/items/ab-1", "/items/",
              "/items/abcdefghijklmnopq", "/public", "/public/a.html", "/a/x/b", "/a/b", "/q?id=7",
              "/q?id=a%20b", "/x", "/y", "/api/v2/items?a=b/../c", "/.hidden/..x/...", "/cAsE/1",
              "/very/long/path/that/goes/on/and/on/0123456789/0123456789/0123456789.html"});
  request.host = one_of({"b", "foo.example", "fooXexample:8080", "a.b.example:80", "10.0.0.1:8080",
                         "[::1]:80", "FOO.example"});
  std::set<std::string> used;
  const int headers = *rc::gen::inRange(0, 5);
  for (int i = 0; i < headers; ++i) {
    const std::string name = one_of({"X-Key", "x-keys", "Accept", "User-Agent", "HOSTESS", "Hos",
                                     "X-Other", "content-lengt", "transfer-encodings"});
    if (!used.insert(name).second) continue;
    request.headers.emplace_back(name, one_of({"1", "a b", "", "yes", "ye", "yes no", "*/*",
                                               "a: b, c; d=\"e\"", "\xC3\xA9"}));
  }
  return request;
}

// Its bytes. Blanks around values, the place of Host among the headers and the case of its name
// vary.
inline std::string head_of(const HttpRequest& request) {
  std::vector<std::string> lines;
  for (const auto& [name, value] : request.headers) {
    lines.push_back(name + ":" + one_of({" ", "", " \t"}) + value + one_of({"", "", " "}));
  }
  const auto place = *rc::gen::inRange<std::size_t>(0, lines.size() + 1);
  lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(place),
               one_of({"Host: ", "host:", "HOST:  "}) + request.host + one_of({"", " "}));
  std::string out =
      request.method + " " + request.path + " HTTP/1." + one_of({"1", "1", "0"}) + "\r\n";
  for (const std::string& line : lines) out += line + "\r\n";
  return out + "\r\n";
}

// Bytes that are nearly a head: cut, doubled, changed in one place, or with a line too many.
inline std::string spoiled(std::string head) {
  const auto at = *rc::gen::inRange<std::size_t>(0, head.size());
  switch (*rc::gen::inRange(0, 6)) {
    case 0:
      return head.substr(0, at);
    case 1:
      return head + head;
    case 2:
      head[at] = static_cast<char>(*rc::gen::inRange(0, 256));
      return head;
    case 3:
      return head.erase(at, 1);
    case 4:
      return head.insert(at, one_of({" ", "\r\n", "\n", "/", "//", "/../", "%2f", ":", "\t", "x"}));
    default:
      return head.insert(head.size() - 2,
                         one_of({"Host: b\r\n", "Transfer-Encoding: chunked\r\n", " folded\r\n",
                                 "Content-Length: 3\r\n", "Content-Length: x\r\n", "X-Key: 1\r\n",
                                 "No colon\r\n", "Bad name: 1\r\n"}));
  }
}

}  // namespace policyc::ir::testing
