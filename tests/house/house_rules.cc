#include "tests/house/house_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace policyc::house {

namespace fs = std::filesystem;

namespace {

constexpr std::array<std::string_view, 7> kRooms = {"ir",  "frontend", "verifier", "backend-bpf",
                                                    "cli", "tests",    "examples"};

// What a room may include of the others; every room may include itself. `tests` may include all.
struct Door {
  std::string_view room;
  std::vector<std::string_view> may_include;
};
const std::vector<Door>& doors() {
  static const std::vector<Door> table = {
      {"ir", {}},
      {"frontend", {"ir"}},
      {"verifier", {"ir"}},
      {"backend-bpf", {"ir"}},
      {"cli", {"ir", "frontend", "verifier", "backend-bpf"}},
      {"tests", {"ir", "frontend", "verifier", "backend-bpf", "cli"}},
  };
  return table;
}

// A heavy header may be named only in files whose path begins with one of `places`, and in no more
// than `at_most` of those files (0 = any number).
struct Confined {
  std::string_view header;  // exact, or a prefix where it ends in '/'
  std::vector<std::string_view> places;
  std::size_t at_most;
};
const std::vector<Confined>& confined() {
  static const std::vector<Confined> table = {
      {"yaml.h", {"frontend/yaml_document.cc"}, 1},
      {"yaml-cpp/", {"frontend/", "cli/", "tests/"}, 1},
      {"z3.h", {"verifier/"}, 1},
      {"z3++.h", {"verifier/solver_z3.cc", "verifier/terms_solver_z3.cc"}, 2},
      {"clang/", {"backend-bpf/clang_module/"}, 0},
      {"clang-c/", {"backend-bpf/clang_module/"}, 0},
      {"llvm/", {"backend-bpf/clang_module/"}, 0},
      {"llvm-c/", {"backend-bpf/clang_module/"}, 0},
      {"bpf/", {"backend-bpf/kernel"}, 0},
      {"pcap.h", {"backend-bpf/capture.cc", "tests/backend-bpf/"}, 1},
      {"pcap/", {"backend-bpf/capture.cc", "tests/backend-bpf/"}, 1},
      {"re2/", {"ir/l7_match.cc"}, 1},
      {"CLI/", {"cli/"}, 0},
  };
  return table;
}

// What ir may take from outside: the C++ library (no dot, no slash), fmt, the operating system.
bool allowed_in_ir(const std::string& path, const Include& include) {
  const std::string& t = include.target;
  if (t.find_first_of("./") == std::string::npos) return true;
  if (t.starts_with("fmt/")) return true;
  if (t.starts_with("re2/")) return path == "ir/l7_match.cc";
  static const std::set<std::string, std::less<>> system = {
      "arpa/inet.h",  "dirent.h",   "fcntl.h",     "poll.h",      "pthread.h",
      "sys/file.h",   "sys/mman.h", "sys/stat.h",  "sys/types.h", "unistd.h",
      "sys/random.h", "sys/wait.h", "netinet/in.h"};
  return system.contains(t);
}

bool is_cpp(std::string_view path) {
  return path.ends_with(".cc") || path.ends_with(".h") || path.ends_with(".def");
}

// Text that the BPF compiler reads, not ours; and texts of the tests that are no tests' own code.
bool is_foreign(std::string_view path) {
  return path.starts_with("backend-bpf/templates/") || path.starts_with("testdata/") ||
         path.starts_with("examples/");
}

std::string_view room_of(std::string_view path) {
  return path.substr(0, path.find('/'));
}

bool names(const Confined& rule, std::string_view target) {
  return rule.header.ends_with('/') ? target.starts_with(rule.header) : target == rule.header;
}

// Hosts that a reader of the repository can reach or that exist only in documentation.
bool known_host(std::string_view host) {
  static const std::vector<std::string_view> known = {
      "github.com",      "raw.githubusercontent.com",
      "cilium.io",       "kubernetes.io",
      "kernel.org",      "debian.org",
      "w3.org",          "schemastore.org",
      "oasis-open.org",  "docs.oasis-open.org",
      "json-schema.org", "apache.org",
      "opensource.org",  "yaml.org",
      "envoyproxy.io",   "rfc-editor.org",
      "ietf.org",        "tcpdump.org",
      "llvm.org",        "microsoft.com",
      "gitlab.com",      "graphviz.org",
      "kustomize.io",    "fluxcd.io",
      "k8s.io",          "spdx.org",
      "example.com",     "example.org",
      "example.net",     "localhost",
      "mermaid.js.org"};
  for (const std::string_view k : known) {
    if (host == k || (host.ends_with(k) && host[host.size() - k.size() - 1] == '.')) return true;
  }
  // Reserved for documentation and tests, and names without a dot (services inside a cluster).
  return host.find('.') == std::string_view::npos || host.ends_with(".example") ||
         host.ends_with(".test") || host.ends_with(".invalid") || host.ends_with(".local") ||
         host.ends_with(".svc") || (!host.empty() && host.front() >= '0' && host.front() <= '9');
}

int line_of(std::string_view text, std::size_t at) {
  return 1 + static_cast<int>(
                 std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
}

}  // namespace

std::vector<Include> includes_of(std::string_view text) {
  std::vector<Include> out;
  int line = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) end = text.size();
    std::string_view row = text.substr(begin, end - begin);
    begin = end + 1;
    ++line;
    const auto skip_blanks = [&row] {
      const std::size_t at = row.find_first_not_of(" \t");
      row.remove_prefix(at == std::string_view::npos ? row.size() : at);
    };
    skip_blanks();
    if (!row.starts_with('#')) continue;
    row.remove_prefix(1);
    skip_blanks();
    if (!row.starts_with("include")) continue;
    row.remove_prefix(7);
    skip_blanks();
    if (row.empty() || (row.front() != '<' && row.front() != '"')) continue;
    const bool angled = row.front() == '<';
    const std::size_t close = row.find(angled ? '>' : '"', 1);
    if (close == std::string_view::npos) continue;
    out.push_back({line, std::string(row.substr(1, close - 1)), angled});
  }
  return out;
}

std::vector<std::string> check_includes(const std::vector<File>& files) {
  std::vector<std::string> complaints;
  std::vector<std::set<std::string>> users(confined().size());
  for (const File& file : files) {
    if (!is_cpp(file.path) || is_foreign(file.path)) continue;
    const std::string_view room = room_of(file.path);
    const auto door =
        std::find_if(doors().begin(), doors().end(), [&](const Door& d) { return d.room == room; });
    if (door == doors().end()) continue;
    for (const Include& include : includes_of(file.text)) {
      const auto complain = [&](const std::string& what) {
        complaints.push_back(fmt::format("{}:{}: {}", file.path, include.line, what));
      };
      const std::string_view other = room_of(include.target);
      const bool is_room = include.target.find('/') != std::string::npos &&
                           std::find(kRooms.begin(), kRooms.end(), other) != kRooms.end();
      if (is_room && other != room &&
          std::find(door->may_include.begin(), door->may_include.end(), other) ==
              door->may_include.end()) {
        complain(fmt::format("{} includes {}, which is {}'s: the rooms meet in ir", room,
                             include.target, other));
      }
      if (!include.angled && !is_room && !include.target.starts_with("policyc_")) {
        complain(fmt::format("\"{}\" is not rooted at the repository", include.target));
      }
      if (room == "ir" && include.angled && !allowed_in_ir(file.path, include)) {
        complain(
            fmt::format("ir includes <{}>: only the C++ library, fmt and the system belong "
                        "there",
                        include.target));
      }
      for (std::size_t i = 0; i < confined().size(); ++i) {
        const Confined& rule = confined()[i];
        if (!names(rule, include.target)) continue;
        const bool at_home =
            std::any_of(rule.places.begin(), rule.places.end(),
                        [&](std::string_view p) { return file.path.starts_with(p); });
        if (!at_home) {
          complain(fmt::format("<{}> may be included only in {}", include.target,
                               fmt::join(rule.places, ", ")));
        } else if (room != "tests") {
          users[i].insert(file.path);
        }
      }
    }
  }
  for (std::size_t i = 0; i < confined().size(); ++i) {
    const Confined& rule = confined()[i];
    if (rule.at_most != 0 && users[i].size() > rule.at_most) {
      complaints.push_back(fmt::format("<{}> is included in {} files, {} at most: {}", rule.header,
                                       users[i].size(), rule.at_most, fmt::join(users[i], ", ")));
    }
  }
  return complaints;
}

std::vector<std::string> check_mentions(const std::vector<File>& files) {
  // Written in two halves, so that this file does not mention them.
  static const std::vector<std::string> paths = {
      std::string("/wo") + "rk/", std::string("/ho") + "me/", std::string("/ro") + "ot/",
      std::string("/works") + "pace"};
  std::vector<std::string> complaints;
  for (const File& file : files) {
    for (const std::string& path : paths) {
      for (std::size_t at = file.text.find(path); at != std::string::npos;
           at = file.text.find(path, at + 1)) {
        // A path inside a container image or a URL may end so; a machine's own begins there.
        const char before = at == 0 ? ' ' : file.text[at - 1];
        if (std::isalnum(static_cast<unsigned char>(before)) != 0 || before == '.') continue;
        complaints.push_back(fmt::format("{}:{}: mentions a path of one machine, `{}`", file.path,
                                         line_of(file.text, at), path));
        break;
      }
    }
    for (std::size_t at = file.text.find("://"); at != std::string::npos;
         at = file.text.find("://", at + 3)) {
      const std::size_t begin = at + 3;
      const std::size_t end = file.text.find_first_not_of(
          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", begin);
      const std::string_view host =
          std::string_view(file.text).substr(begin, end == std::string::npos ? end : end - begin);
      if (host.empty() || known_host(host)) continue;
      const std::string_view before = std::string_view(file.text).substr(0, at);
      if (!before.ends_with("http") && !before.ends_with("https") && !before.ends_with("ssh") &&
          !before.ends_with("git")) {
        continue;
      }
      complaints.push_back(
          fmt::format("{}:{}: names the host `{}`, which is not on the list of "
                      "hosts that readers know (tests/house/house_rules.cc)",
                      file.path, line_of(file.text, at), host));
    }
  }
  return complaints;
}

std::vector<std::string> check_text(const std::vector<File>& files) {
  constexpr std::size_t kColumns = 100;
  // In two halves, so that this file does not hold it.
  const std::string section = std::string("\xC2") + "\xA7";
  std::vector<std::string> complaints;
  for (const File& file : files) {
    const bool table = file.path.ends_with(".def");  // texts for users, one to a line
    const bool code = file.path.ends_with(".cc") || file.path.ends_with(".h") ||
                      file.path.ends_with(".c") || table;
    if (!code || file.path.starts_with("testdata/")) continue;
    std::istringstream lines(file.text);
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      // Characters beyond ASCII are one column each.
      const auto columns =
          static_cast<std::size_t>(std::count_if(line.begin(), line.end(), [](char c) {
            return (static_cast<unsigned char>(c) & 0xC0U) != 0x80;
          }));
      if (columns > kColumns && !table) {
        complaints.push_back(
            fmt::format("{}:{}: {} columns, {} at most", file.path, number, columns, kColumns));
      }
      if (line.find(section) != std::string::npos) {
        complaints.push_back(fmt::format(
            "{}:{}: cites a section of some document; say the thing itself", file.path, number));
      }
    }
  }
  return complaints;
}

std::vector<std::string> check_top_level(const std::vector<std::string>& names) {
  static const std::set<std::string, std::less<>> allowed = {
      "CMakeLists.txt",    "frontend",      "ir",          "backend-bpf", "verifier", "cli",
      "testdata",          "tests",         "examples",    "README.md",   "LICENSE",  "docs",
      "CMakePresets.json", ".clang-format", ".clang-tidy", ".gitignore",  ".ci"};
  std::vector<std::string> complaints;
  for (const std::string& name : names) {
    if (!allowed.contains(name)) {
      complaints.push_back(fmt::format("{}: not one of the names that belong at the top", name));
    }
  }
  return complaints;
}

std::vector<File> read_repository(const std::string& root) {
  std::vector<File> out;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator();
       ++it) {
    const std::string name = it->path().filename().string();
    if (it->is_directory()) {
      const bool ours = !name.starts_with('.') || name == ".ci";
      if (!ours || (it.depth() == 0 && name == "build")) it.disable_recursion_pending();
      continue;
    }
    if (!it->is_regular_file() || name == ".git" || name.ends_with(".swp")) continue;
    std::ifstream in(it->path(), std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    std::string content = text.str();
    if (content.find('\0') != std::string::npos) continue;
    out.push_back({fs::relative(it->path(), root).generic_string(), std::move(content)});
  }
  std::sort(out.begin(), out.end(), [](const File& a, const File& b) { return a.path < b.path; });
  return out;
}

}  // namespace policyc::house
