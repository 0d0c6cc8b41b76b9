#include "frontend/discover.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "ir/base/file.h"

namespace policyc::frontend {
namespace {

// One character class `[…]` at pattern[p]; sets `next` behind it. nullopt: not closed, so a plain
// `[`.
std::optional<bool> match_set(std::string_view pattern, std::size_t p, char c, std::size_t& next) {
  std::size_t i = p + 1;
  const bool negated = i < pattern.size() && (pattern[i] == '!' || pattern[i] == '^');
  if (negated) ++i;
  bool hit = false;
  for (bool first = true; i < pattern.size() && (first || pattern[i] != ']'); first = false) {
    char low = pattern[i];
    char high = low;
    if (i + 2 < pattern.size() && pattern[i + 1] == '-' && pattern[i + 2] != ']') {
      high = pattern[i + 2];
      i += 2;
    }
    hit = hit || (low <= c && c <= high);
    ++i;
  }
  if (i >= pattern.size()) return std::nullopt;
  next = i + 1;
  return hit != negated && c != '/';
}

// Wildcard match over the whole of both texts. One row of positions, so hostile patterns stay
// cheap.
bool wildcard_match(std::string_view pattern, std::string_view text) {
  std::vector<char> now(text.size() + 1, 0);
  std::vector<char> then(text.size() + 1, 0);
  now[0] = 1;
  for (std::size_t p = 0; p < pattern.size();) {
    std::fill(then.begin(), then.end(), 0);
    if (pattern[p] == '*') {
      const bool deep = p + 1 < pattern.size() && pattern[p + 1] == '*';
      std::size_t next = p + (deep ? 2 : 1);
      // `**/` also stands for nothing at all.
      const bool with_slash = deep && next < pattern.size() && pattern[next] == '/';
      if (with_slash) ++next;
      bool started = false;  // some position before i matched
      for (std::size_t i = 0; i <= text.size(); ++i) {
        bool carry = false;
        if (with_slash) {
          carry = started && text[i - 1] == '/';
        } else if (i > 0 && then[i - 1] != 0) {
          carry = deep || text[i - 1] != '/';
        }
        then[i] = static_cast<char>(now[i] != 0 || carry);
        started = started || now[i] != 0;
      }
      p = next;
    } else {
      std::size_t next = p + 1;
      for (std::size_t i = 0; i < text.size(); ++i) {
        if (now[i] == 0) continue;
        bool hit = false;
        if (pattern[p] == '?') {
          hit = text[i] != '/';
        } else if (pattern[p] == '[') {
          std::size_t after = p + 1;
          const auto set = match_set(pattern, p, text[i], after);
          hit = set.value_or(text[i] == '[');
          next = after;
        } else if (pattern[p] == '\\' && p + 1 < pattern.size()) {
          hit = text[i] == pattern[p + 1];
          next = p + 2;
        } else {
          hit = text[i] == pattern[p];
        }
        if (hit) then[i + 1] = 1;
      }
      // The position after a set or an escape does not depend on the text.
      if (pattern[p] == '[' && next == p + 1) {
        std::size_t after = p + 1;
        if (match_set(pattern, p, 'x', after)) next = after;
      } else if (pattern[p] == '\\' && p + 1 < pattern.size()) {
        next = p + 2;
      }
      p = next;
    }
    std::swap(now, then);
  }
  return now[text.size()] != 0;
}

struct IgnoreRule {
  std::string pattern;
  bool negated = false;
  bool folders_only = false;
  std::string base;  // folder of the ignore file, as walked; "" = the PATH's own root
};

bool has_manifest_name(std::string_view name) {
  auto ends = [&](std::string_view suffix) {
    return name.size() > suffix.size() && name.ends_with(suffix);
  };
  return ends(".yaml") || ends(".yml") || ends(".json") || name == "Kustomization";
}

std::string join(std::string_view folder, std::string_view name) {
  if (folder.empty() || folder == ".") return std::string(name);
  std::string out(folder);
  if (out.back() != '/') out += '/';
  return out.append(name);
}

std::string cause(int error) {
  std::string text = std::strerror(error);
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] = static_cast<char>(text[0] + 32);
  return text;
}

class Walker {
 public:
  Walker(const std::vector<std::string>& exclude, Discovery& out) : out_(out) {
    for (const std::string& pattern : exclude) {
      // --exclude is about the path as given, wherever it was found.
      add_rule(pattern, "", rules_);
    }
  }

  void path(const std::string& given) {
    if (given == "-") {
      out_.files.push_back({"-", true});
      return;
    }
    struct stat info {};
    if (given.empty() || stat(given.c_str(), &info) != 0) {
      out_.missing.emplace_back(given, given.empty() ? "empty path" : cause(errno));
      return;
    }
    std::string clean = given;
    while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
    while (clean.size() > 2 && clean.starts_with("./")) clean.erase(0, 2);
    root_ = clean;
    std::vector<IgnoreRule> rules = rules_;
    read_ignore_files_above(clean, rules);
    if (ignored(rules, clean, S_ISDIR(info.st_mode))) {
      out_.skipped.emplace_back(clean, "matched by .policycignore or --exclude");
      return;
    }
    if (S_ISDIR(info.st_mode)) {
      folder(clean, std::move(rules), true, 0);
    } else {
      add_file(clean, info, true);
    }
  }

 private:
  static void add_rule(std::string_view line, const std::string& base,
                       std::vector<IgnoreRule>& rules) {
    while (!line.empty() && (line.back() == ' ' || line.back() == '\r' || line.back() == '\t')) {
      line.remove_suffix(1);
    }
    if (line.empty() || line[0] == '#') return;
    IgnoreRule rule;
    rule.base = base;
    if (line[0] == '!') {
      rule.negated = true;
      line.remove_prefix(1);
    }
    if (!line.empty() && line.back() == '/') {
      rule.folders_only = true;
      line.remove_suffix(1);
    }
    if (line.starts_with("./")) line.remove_prefix(2);
    if (line.empty()) return;
    rule.pattern = std::string(line);
    rules.push_back(std::move(rule));
  }

  void read_ignore_file(const std::string& folder, std::vector<IgnoreRule>& rules) {
    const auto text = read_file(join(folder, ".policycignore"), 1U << 20U);
    if (!text) return;
    std::string_view rest = *text;
    while (!rest.empty()) {
      const std::size_t end = rest.find('\n');
      add_rule(rest.substr(0, end), folder == "." ? "" : folder, rules);
      rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
  }

  // The ignore files from the working directory down to the folder above a relative PATH.
  void read_ignore_files_above(const std::string& path, std::vector<IgnoreRule>& rules) {
    if (path.empty() || path[0] == '/' || path.starts_with("..") || path == ".") return;
    read_ignore_file(".", rules);
    for (std::size_t slash = path.find('/'); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
      read_ignore_file(path.substr(0, slash), rules);
    }
  }

  // What of `path` lies below `folder`; empty where it does not.
  static std::string_view below(std::string_view path, std::string_view folder) {
    if (!path.starts_with(folder)) return {};
    path.remove_prefix(folder.size());
    if (!folder.ends_with('/') && !path.starts_with('/')) return {};
    if (path.starts_with('/')) path.remove_prefix(1);
    return path;
  }

  static bool rule_matches(const IgnoreRule& rule, std::string_view path, bool is_folder) {
    // A file cannot match a folder rule itself, only lie in a folder that does.
    if (rule.folders_only && !is_folder) {
      const std::size_t slash = path.rfind('/');
      path = slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
    }
    return !path.empty() && glob_match(rule.pattern, path);
  }

  // The last rule that matches decides. Rules without a base (--exclude) are held against the path
  // as given and against what lies below the PATH.
  bool ignored(const std::vector<IgnoreRule>& rules, std::string_view path, bool is_folder) const {
    bool result = false;
    for (const IgnoreRule& rule : rules) {
      const bool hit = rule.base.empty() ? rule_matches(rule, path, is_folder) ||
                                               rule_matches(rule, below(path, root_), is_folder)
                                         : rule_matches(rule, below(path, rule.base), is_folder);
      if (hit) result = !rule.negated;
    }
    return result;
  }

  void folder(const std::string& path, std::vector<IgnoreRule> rules, bool top, int depth) {
    if (depth > 200) {
      out_.unreadable.emplace_back(path, "folders nested too deep");
      return;
    }
    DIR* dir = opendir(path.c_str());
    if (dir == nullptr) {
      (top ? out_.missing : out_.unreadable).emplace_back(path, cause(errno));
      return;
    }
    std::vector<std::string> names;
    while (const dirent* entry = readdir(dir)) names.emplace_back(entry->d_name);
    closedir(dir);
    std::sort(names.begin(), names.end());
    read_ignore_file(path, rules);
    for (const std::string& name : names) {
      if (name == "." || name == "..") continue;
      const std::string full = join(path, name);
      struct stat info {};
      if (lstat(full.c_str(), &info) != 0) continue;
      const bool link = S_ISLNK(info.st_mode);
      if (link && stat(full.c_str(), &info) != 0) {
        if (has_manifest_name(name)) out_.skipped.emplace_back(full, "link to nothing");
        continue;
      }
      if (S_ISDIR(info.st_mode)) {
        if (name[0] == '.') {
          if (name != ".git") out_.skipped.emplace_back(full, "hidden folder");
        } else if (name == "node_modules") {
          out_.skipped.emplace_back(full, "node_modules");
        } else if (link) {
          out_.skipped.emplace_back(full, "link to a folder");
        } else if (ignored(rules, full, true)) {
          out_.skipped.emplace_back(full, "matched by .policycignore or --exclude");
        } else {
          folder(full, rules, false, depth + 1);
        }
      } else if (has_manifest_name(name)) {
        if (name[0] == '.') {
          // Our own settings, editors' and file managers' leftovers.
          out_.skipped.emplace_back(full, "hidden file");
        } else if (!S_ISREG(info.st_mode)) {
          out_.skipped.emplace_back(full, "not a regular file");
        } else if (ignored(rules, full, false)) {
          out_.skipped.emplace_back(full, "matched by .policycignore or --exclude");
        } else {
          add_file(full, info, false);
        }
      }
    }
  }

  void add_file(const std::string& path, const struct stat& info, bool named) {
    // The same file by two ways (given twice, a link beside its target) is read once.
    auto [it, fresh] = seen_.emplace(std::pair(info.st_dev, info.st_ino), out_.files.size());
    if (fresh) {
      out_.files.push_back({path, named});
      return;
    }
    FoundFile& known = out_.files[it->second];
    known.named = known.named || named;
    known.path = std::min(known.path, path);
  }

  Discovery& out_;
  std::vector<IgnoreRule> rules_;
  std::string root_;
  std::map<std::pair<dev_t, ino_t>, std::size_t> seen_;
};

}  // namespace

bool glob_match(std::string_view pattern, std::string_view path) {
  const bool anchored = pattern.find('/') != std::string_view::npos;
  if (pattern.starts_with('/')) pattern.remove_prefix(1);
  if (anchored) {
    if (wildcard_match(pattern, path)) return true;
    for (std::size_t slash = path.find('/'); slash != std::string_view::npos;
         slash = path.find('/', slash + 1)) {
      if (wildcard_match(pattern, path.substr(0, slash))) return true;
    }
    return false;
  }
  while (true) {
    const std::size_t slash = path.find('/');
    if (wildcard_match(pattern, path.substr(0, slash))) return true;
    if (slash == std::string_view::npos) return false;
    path.remove_prefix(slash + 1);
  }
}

std::string absolute_path(std::string_view path) {
  std::string full;
  if (path.empty() || path[0] != '/') {
    char cwd[PATH_MAX];
    if (getcwd(cwd, sizeof cwd) != nullptr) full = cwd;
    full += '/';
  }
  full.append(path);
  std::vector<std::string_view> parts;
  std::string_view rest = full;
  while (!rest.empty()) {
    const std::size_t slash = rest.find('/');
    const std::string_view part = rest.substr(0, slash);
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
    rest.remove_prefix(slash == std::string_view::npos ? rest.size() : slash + 1);
  }
  std::string out;
  for (std::string_view part : parts) out.append("/").append(part);
  return out.empty() ? "/" : out;
}

std::string parent_path(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

std::string_view base_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

Discovery discover(const std::vector<std::string>& paths, const std::vector<std::string>& exclude) {
  Discovery out;
  Walker walker(exclude, out);
  for (const std::string& path : paths) walker.path(path);
  std::sort(out.files.begin(), out.files.end(),
            [](const FoundFile& a, const FoundFile& b) { return a.path < b.path; });
  // Standard input named twice is still one stream.
  out.files.erase(
      std::unique(out.files.begin(), out.files.end(),
                  [](const FoundFile& a, const FoundFile& b) { return a.path == b.path; }),
      out.files.end());
  std::sort(out.skipped.begin(), out.skipped.end());
  out.skipped.erase(std::unique(out.skipped.begin(), out.skipped.end()), out.skipped.end());
  return out;
}

}  // namespace policyc::frontend
