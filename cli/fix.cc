#include "cli/fix.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "frontend/yaml_document.h"
#include "ir/base/file.h"

namespace policyc::cli {
namespace {

// Edits of one file by their place. An edit may be there twice when two findings share an anchor.
using FileEdits = std::map<std::pair<std::uint32_t, std::uint32_t>, std::string>;

bool fits(const FileEdits& edits, const Edit& edit) {
  const std::pair place(edit.range.begin, edit.range.end);
  if (auto same = edits.find(place); same != edits.end()) return same->second == edit.text;
  auto after = edits.lower_bound(place);
  if (after != edits.end() && after->first.first < edit.range.end) return false;
  if (after != edits.end() && after->first.first == edit.range.begin) return false;
  return after == edits.begin() || std::prev(after)->first.second <= edit.range.begin;
}

std::string edited(const std::string& text, const FileEdits& edits) {
  std::string out;
  std::size_t at = 0;
  for (const auto& [place, replacement] : edits) {
    out.append(text, at, place.first - at);
    out += replacement;
    at = place.second;
  }
  return out.append(text, at);
}

// How a text reads: the findings of the YAML layer, and whether it is JSON.
struct Reading {
  std::map<DiagCode, std::size_t> findings;
  bool json = false;

  explicit Reading(const std::string& text) : json(nlohmann::json::accept(text)) {
    SourceMap sources;
    DiagnosticSink sink;
    frontend::read_yaml(sources, sources.add("", text), sink);
    for (const Diagnostic& d : sink.all()) ++findings[d.code];
  }
  bool as_good_as(const Reading& other) const {
    if (other.json && !json) return false;
    return std::all_of(findings.begin(), findings.end(), [&](const auto& mine) {
      const auto theirs = other.findings.find(mine.first);
      return theirs != other.findings.end() && mine.second <= theirs->second;
    });
  }
};

}  // namespace

FixResult apply_fixes(const SourceMap& sources, DiagnosticSink& sink) {
  FixResult result;
  std::map<FileId, FileEdits> plan;
  std::vector<std::set<FileId>> touched(sink.all().size());  // empty: not fixed
  for (std::size_t i = 0; i < sink.all().size(); ++i) {
    const Diagnostic& d = sink.all()[i];
    if (!d.fix || d.fix->edits.empty()) continue;
    bool good = true;
    std::vector<const Edit*> added;  // taken back when a later edit of the same fix does not fit
    for (const Edit& edit : d.fix->edits) {
      const SourceRange r = edit.range;
      good = r.known() && r.begin <= r.end && r.end <= sources.text(r.file).size() &&
             sources.path(r.file) != "<stdin>" && fits(plan[r.file], edit);
      if (!good) break;
      if (plan[r.file].emplace(std::pair(r.begin, r.end), edit.text).second) added.push_back(&edit);
    }
    if (!good) {
      for (const Edit* edit : added)
        plan[edit->range.file].erase({edit->range.begin, edit->range.end});
      continue;
    }
    for (const Edit& edit : d.fix->edits) touched[i].insert(edit.range.file);
  }
  std::set<FileId> failed;
  for (const auto& [file, edits] : plan) {
    if (edits.empty()) continue;
    const std::string& path = sources.path(file);
    const std::string text = edited(sources.text(file), edits);
    if (!Reading(text).as_good_as(Reading(sources.text(file)))) {
      result.problems.push_back(
          fmt::format("`{}` is left as it was: the repairs would make it unreadable", path));
      failed.insert(file);
    } else if (auto error = write_file_atomic(path, text)) {
      result.problems.push_back(fmt::format("cannot write `{}`: {}", path, error->message));
      failed.insert(file);
    }
  }
  std::vector<Diagnostic> rest;
  for (std::size_t i = 0; i < touched.size(); ++i) {
    const bool done =
        !touched[i].empty() && std::none_of(touched[i].begin(), touched[i].end(),
                                            [&](FileId file) { return failed.contains(file); });
    if (done) {
      ++result.fixed;
    } else {
      rest.push_back(std::move(sink.all()[i]));
    }
  }
  sink.all() = std::move(rest);
  return result;
}

}  // namespace policyc::cli
