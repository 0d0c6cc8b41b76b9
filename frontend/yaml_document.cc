#include "frontend/yaml_document.h"

#include <fmt/format.h>
#include <yaml.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "ir/base/diag_code.h"

namespace policyc::frontend {

const YamlEntry* YamlNode::find(std::string_view key) const {
  for (const YamlEntry& entry : entries) {
    if (entry.key == key) return &entry;
  }
  return nullptr;
}

const YamlNode* YamlNode::get(std::string_view key) const {
  const YamlEntry* entry = find(key);
  if (entry == nullptr || entry->value.node->kind == NodeKind::Null) return nullptr;
  return entry->value.node;
}

std::string_view YamlNode::get_text(std::string_view key) const {
  const YamlNode* node = get(key);
  return node != nullptr && node->is_scalar() ? node->text : std::string_view();
}

namespace {

// Hostile files hold one mistake many times.
constexpr std::size_t kMaxFindingsPerDocument = 20;

// The first offset at which the text is not UTF-8 (surrogates and overlong forms included).
std::optional<std::size_t> find_bad_utf8(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80U) {
      ++i;
      continue;
    }
    std::size_t length = 0;
    std::uint32_t value = 0;
    std::uint32_t smallest = 0;
    if ((lead & 0xE0U) == 0xC0U) {
      length = 2, value = lead & 0x1FU, smallest = 0x80;
    } else if ((lead & 0xF0U) == 0xE0U) {
      length = 3, value = lead & 0x0FU, smallest = 0x800;
    } else if ((lead & 0xF8U) == 0xF0U) {
      length = 4, value = lead & 0x07U, smallest = 0x10000;
    } else {
      return i;
    }
    if (i + length > text.size()) return i;
    for (std::size_t k = 1; k < length; ++k) {
      auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xC0U) != 0x80U) return i;
      value = (value << 6U) | (next & 0x3FU);
    }
    if (value < smallest || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return i;
    i += length;
  }
  return std::nullopt;
}

// libyaml counts code points; we count bytes. Keeps the byte offset of every 64th code point.
class OffsetMap {
 public:
  explicit OffsetMap(std::string_view text) : text_(text) {
    ascii_ = std::all_of(text.begin(), text.end(),
                         [](char c) { return static_cast<unsigned char>(c) < 0x80U; });
    if (ascii_) return;
    std::size_t points = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (continues(i)) continue;
      if (points % kStep == 0) steps_.push_back(i);
      ++points;
    }
  }

  std::size_t byte(std::size_t point) const {
    if (ascii_) return std::min(point, text_.size());
    std::size_t step = point / kStep;
    if (step >= steps_.size()) return text_.size();
    std::size_t i = steps_[step];
    for (std::size_t left = point % kStep; left > 0 && i < text_.size(); --left) {
      ++i;
      while (i < text_.size() && continues(i)) ++i;
    }
    return i;
  }

 private:
  static constexpr std::size_t kStep = 64;
  bool continues(std::size_t i) const {
    return (static_cast<unsigned char>(text_[i]) & 0xC0U) == 0x80U;
  }
  std::string_view text_;
  bool ascii_ = true;
  std::vector<std::size_t> steps_;
};

bool one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

bool all_digits(std::string_view text, std::string_view digits) {
  return !text.empty() && text.find_first_not_of(digits) == std::string_view::npos;
}

bool is_int(std::string_view text) {
  if (text.front() == '+' || text.front() == '-') text.remove_prefix(1);
  std::string plain;
  for (char c : text) {
    if (c != '_') plain += c;
  }
  std::string_view rest = plain;
  if (rest.empty() || text.front() == '_') return false;
  if (rest.size() > 1 && rest[0] == '0') {
    char base = rest[1];
    if (base == 'x' || base == 'X') return all_digits(rest.substr(2), "0123456789abcdefABCDEF");
    if (base == 'b' || base == 'B') return all_digits(rest.substr(2), "01");
    if (base == 'o' || base == 'O') return all_digits(rest.substr(2), "01234567");
    return all_digits(rest, "01234567");
  }
  return all_digits(rest, "0123456789");
}

// [-+]? ( digits [. digits*] | . digits ) [ e [-+]? digits ]
bool is_float(std::string_view text) {
  if (one_of(text, {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF",
                    ".nan", ".NaN", ".NAN"})) {
    return true;
  }
  std::size_t i = 0;
  auto digits = [&] {
    std::size_t start = i;
    while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
    return i > start;
  };
  if (text[i] == '+' || text[i] == '-') ++i;
  bool before = digits();
  bool after = false;
  if (i < text.size() && text[i] == '.') {
    ++i;
    after = digits();
  }
  if (!before && !after) return false;
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (!digits()) return false;
  }
  return i == text.size();
}

// The type of a plain scalar, as the API server's decoder (YAML 1.1) sees it.
NodeKind plain_kind(std::string_view text) {
  if (text.empty() || one_of(text, {"~", "null", "Null", "NULL"})) return NodeKind::Null;
  if (one_of(text,
             {"y", "Y", "yes", "Yes", "YES", "true",  "True",  "TRUE",  "on",  "On",  "ON",
              "n", "N", "no",  "No",  "NO",  "false", "False", "FALSE", "off", "Off", "OFF"})) {
    return NodeKind::Bool;
  }
  bool numeric_start =
      (text[0] >= '0' && text[0] <= '9') || text[0] == '+' || text[0] == '-' || text[0] == '.';
  if (!numeric_start) return NodeKind::String;
  if (is_int(text)) return NodeKind::Int;
  if (is_float(text)) return NodeKind::Float;
  return NodeKind::String;
}

// The value of a plain scalar of kind Bool.
bool boolean(std::string_view text) {
  return one_of(text, {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"});
}

bool has_placeholder(std::string_view text) {
  for (std::size_t i = text.find('$'); i != std::string_view::npos; i = text.find('$', i + 1)) {
    if (i + 1 >= text.size()) return false;
    char open = text[i + 1];
    if (open == '{' && text.find('}', i + 2) != std::string_view::npos) return true;
    // `$(VAR)`: a name inside, so that regular expressions such as `$(a|b)` stay what they are.
    if (open == '(') {
      std::size_t close = text.find(')', i + 2);
      if (close == std::string_view::npos || close == i + 2) continue;
      std::string_view name = text.substr(i + 2, close - i - 2);
      if (std::all_of(name.begin(), name.end(), [](char c) {
            return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
          })) {
        return true;
      }
    }
  }
  return false;
}

struct ParserDeleter {
  void operator()(yaml_parser_t* parser) const {
    yaml_parser_delete(parser);
    delete parser;
  }
};

class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { yaml_event_delete(&raw_); }
  yaml_event_t* raw() { return &raw_; }
  const yaml_event_t& operator*() const { return raw_; }

 private:
  yaml_event_t raw_{};
};

std::string_view text_of(const yaml_char_t* text) {
  return text == nullptr ? std::string_view() : reinterpret_cast<const char*>(text);
}

// What libyaml says, in words that tell the reader of the file what to look for.
std::string explain_problem(std::string_view problem) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 13> kWords = {{
      {"mapping values are not allowed in this context",
       "`:` starts a value where none can stand; is the line above indented differently, or does "
       "a text with `: ` need quotes"},
      {"did not find expected key",
       "expected a key at the indentation of the mapping that starts above"},
      {"could not find expected ':'", "expected `key: value`; this line has no `:` after its key"},
      {"found unexpected end of stream", "the quoted text that starts here never ends"},
      {"found unexpected document indicator", "the quoted text that starts here never ends"},
      {"did not find expected ',' or ']'", "the list that starts with `[` never ends"},
      {"did not find expected ',' or '}'", "the mapping that starts with `{` never ends"},
      {"did not find expected '-' indicator",
       "expected `- ` at the indentation of the list that starts above"},
      {"did not find expected <document start>",
       "text after the end of the document; separate documents with a line `---`"},
      {"block sequence entries are not allowed in this context",
       "`- ` cannot start a list here; the list belongs on lines of its own below the key"},
      {"found unexpected ':'", "a space must follow `:` here, or the text needs quotes"},
      {"did not find expected node content", "expected a value here"},
      {"control characters are not allowed", "control character in the text"},
  }};
  for (const auto& [theirs, ours] : kWords) {
    if (problem == theirs) return std::string(ours);
  }
  return problem.empty() ? "the text is not YAML" : std::string(problem);
}

}  // namespace

// Builds the tree of one file from libyaml's events, without recursion.
class YamlBuilder {
 public:
  YamlBuilder(const SourceMap& sources, FileId file, DiagnosticSink& sink, const YamlLimits& limits)
      : text_(sources.text(file)),
        file_(file),
        sink_(sink),
        limits_(limits),
        bom_(text_.substr(0, 3) == "\xEF\xBB\xBF" ? 3U : 0U),
        offsets_(text_.substr(bom_)) {}

  YamlStream run() {
    if (readable()) parse();
    return std::move(stream_);
  }

 private:
  // A collection that is being read.
  struct Frame {
    YamlNode* node = nullptr;
    std::string_view anchor;
    std::size_t size = 1;    // nodes below, aliases expanded
    std::size_t height = 1;  // levels below, aliases expanded
    bool has_key = false;
    bool key_is_merge = false;
    std::string_view key, key_written;
    SourceRange key_range;
    struct Merge {
      YamlRef value;
      std::size_t size;
    };
    std::vector<Merge> merges;
  };
  struct Anchor {
    YamlNode* node = nullptr;
    bool open = false;  // still being read: an alias to it would be a circle
    std::size_t size = 1;
    std::size_t height = 1;
  };

  SourceRange range(std::size_t begin, std::size_t end) const {
    return {file_, static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)};
  }
  std::size_t byte_at(std::size_t code_point) const { return bom_ + offsets_.byte(code_point); }
  SourceRange range_of(const yaml_event_t& event) const {
    return range(byte_at(event.start_mark.index), byte_at(event.end_mark.index));
  }
  // One code point wide, or up to the end of the line for a place past its last character.
  SourceRange at(std::size_t offset) const {
    offset = std::min(offset, text_.size());
    std::size_t end = offset;
    if (end < text_.size()) ++end;
    while (end < text_.size() && (static_cast<unsigned char>(text_[end]) & 0xC0U) == 0x80U) ++end;
    return range(offset, end);
  }

  Diagnostic& fail(DiagCode code, SourceRange where, std::string message) {
    stream_.ok_ = false;
    return sink_.report(code, where, std::move(message), Layer::Yaml);
  }
  // The document is refused; the stream can still be read.
  Diagnostic& fail_document(DiagCode code, SourceRange where, std::string message) {
    document_ok_ = false;
    if (++findings_ <= kMaxFindingsPerDocument) return fail(code, where, std::move(message));
    stream_.ok_ = false;
    return unwanted_ = {};
  }

  bool readable() {
    auto starts = [&](std::string_view prefix) { return text_.substr(0, prefix.size()) == prefix; };
    if (text_.size() > limits_.file_bytes || text_.size() > UINT32_MAX) {
      fail(DiagCode::YamlLimit, at(0),
           fmt::format("the file has {} bytes; the limit is {}", text_.size(), limits_.file_bytes));
      return false;
    }
    // By the byte order mark; that of UTF-32 begins as the one of UTF-16 does.
    using namespace std::string_view_literals;
    const bool utf32 = starts("\xFF\xFE\0\0"sv) || starts("\0\0\xFE\xFF"sv);
    if (utf32 || starts("\xFF\xFE") || starts("\xFE\xFF")) {
      fail(DiagCode::NotUtf8, at(0), utf32 ? "the file is UTF-32" : "the file is UTF-16").help =
          "save it as UTF-8";
      return false;
    }
    if (auto bad = find_bad_utf8(text_)) {
      fail(DiagCode::NotUtf8, range(*bad, *bad + 1),
           fmt::format("byte 0x{:02X} is not UTF-8 text", static_cast<unsigned char>(text_[*bad])));
      return false;
    }
    std::size_t nul = text_.find('\0');
    if (nul != std::string_view::npos) {
      fail(DiagCode::NotUtf8, range(nul, nul + 1), "NUL byte in the text; this is no YAML file");
      return false;
    }
    return true;
  }

  void parse() {
    std::unique_ptr<yaml_parser_t, ParserDeleter> parser(new yaml_parser_t);
    if (yaml_parser_initialize(parser.get()) == 0) {
      fail(DiagCode::YamlSyntax, at(0), "out of memory");
      return;
    }
    yaml_parser_set_encoding(parser.get(), YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(parser.get(),
                                 reinterpret_cast<const unsigned char*>(text_.data() + bom_),
                                 text_.size() - bom_);
    bool more = true;
    while (more) {
      Event event;
      if (yaml_parser_parse(parser.get(), event.raw()) == 0) {
        syntax_error(*parser);
        return;
      }
      more = handle(*event);
    }
  }

  // False ends the reading.
  bool handle(const yaml_event_t& event) {
    switch (event.type) {
      case YAML_NO_EVENT:
      case YAML_STREAM_START_EVENT:
        return true;
      case YAML_STREAM_END_EVENT:
        return false;
      case YAML_DOCUMENT_START_EVENT:
        begin_document(event);
        return true;
      case YAML_DOCUMENT_END_EVENT:
        end_document();
        return true;
      case YAML_ALIAS_EVENT:
        return on_alias(event);
      case YAML_SCALAR_EVENT:
        return on_scalar(event);
      case YAML_SEQUENCE_START_EVENT:
        return on_start(event, NodeKind::Sequence);
      case YAML_MAPPING_START_EVENT:
        return on_start(event, NodeKind::Mapping);
      case YAML_SEQUENCE_END_EVENT:
      case YAML_MAPPING_END_EVENT:
        return on_end(event);
    }
    return false;
  }

  void begin_document(const yaml_event_t& event) {
    root_ = {};
    frames_.clear();
    anchors_.clear();
    expanded_ = 0;
    findings_ = 0;
    glued_ = false;
    document_ok_ = true;
    document_begin_ = byte_at(event.start_mark.index);
  }

  void end_document() {
    std::uint32_t index = next_index_++;
    if (!document_ok_) return;
    YamlDocument document;
    if (root_.node == nullptr) root_ = {&stream_.nodes_.emplace_back(), at(document_begin_)};
    document.root = root_.node;
    document.index = index;
    document.range = range(document_begin_, std::max<std::size_t>(document_begin_, root_.at.end));
    stream_.documents_.push_back(document);
  }

  // -- nodes ---------------------------------------------------------------------------------

  bool on_scalar(const yaml_event_t& event) {
    const auto& scalar = event.data.scalar;
    if (scalar.length > limits_.scalar_bytes) {
      fail(DiagCode::YamlLimit, range_of(event),
           fmt::format("a text of {} bytes; the limit is {}", scalar.length, limits_.scalar_bytes));
      return false;
    }
    YamlNode& node = stream_.nodes_.emplace_back();
    node.range = range_of(event);
    bool block =
        scalar.style == YAML_LITERAL_SCALAR_STYLE || scalar.style == YAML_FOLDED_SCALAR_STYLE;
    while (block && node.range.end > node.range.begin + 1 &&
           std::isspace(static_cast<unsigned char>(text_[node.range.end - 1])) != 0) {
      --node.range.end;
    }
    node.text = keep(std::string_view(reinterpret_cast<const char*>(scalar.value), scalar.length),
                     node.range);
    node.plain = scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node.placeholder = has_placeholder(node.text);
    node.kind = node.plain && scalar.tag == nullptr ? plain_kind(node.text) : NodeKind::String;
    if (scalar.tag != nullptr) apply_tag(text_of(scalar.tag), node);
    std::string_view anchor = text_of(scalar.anchor);
    if (!anchor.empty()) anchors_[std::string(anchor)] = {&node, false, 1, 1};
    return attach({&node, node.range}, 1, 1);
  }

  // A view that lives as long as the stream: the file's own text where the scalar stands there
  // unchanged, else a copy.
  std::string_view keep(std::string_view value, SourceRange where) {
    std::string_view source = text_.substr(where.begin, where.end - where.begin);
    if (source == value) return source;
    if (source.size() == value.size() + 2 && source.substr(1, value.size()) == value) {
      return source.substr(1, value.size());
    }
    return stream_.strings_.emplace_back(value);
  }

  void apply_tag(std::string_view tag, YamlNode& node) {
    constexpr std::string_view kCore = "tag:yaml.org,2002:";
    if (tag == "!") {
      node.kind = NodeKind::String;
      return;
    }
    if (tag.substr(0, kCore.size()) == kCore) {
      std::string_view name = tag.substr(kCore.size());
      if (name == "str") {
        node.kind = NodeKind::String;
        return;
      }
      NodeKind seen = plain_kind(node.text);
      if ((name == "int" && seen == NodeKind::Int) || (name == "bool" && seen == NodeKind::Bool) ||
          (name == "null" && seen == NodeKind::Null) ||
          (name == "float" && (seen == NodeKind::Float || seen == NodeKind::Int))) {
        node.kind = name == "float" ? NodeKind::Float : seen;
        return;
      }
      if (one_of(name, {"int", "bool", "null", "float"})) {
        fail_document(DiagCode::YamlTag, node.range,
                      fmt::format("`{}` is no value of the type `!!{}`", node.text, name));
        return;
      }
    }
    refuse_tag(tag, node.range);
  }

  void refuse_tag(std::string_view tag, SourceRange where) {
    fail_document(DiagCode::YamlTag, where,
                  fmt::format("the tag `{}` has no meaning in Kubernetes objects", tag));
  }

  bool on_start(const yaml_event_t& event, NodeKind kind) {
    const auto* anchor_text = kind == NodeKind::Sequence ? event.data.sequence_start.anchor
                                                         : event.data.mapping_start.anchor;
    const auto* tag_text =
        kind == NodeKind::Sequence ? event.data.sequence_start.tag : event.data.mapping_start.tag;
    if (frames_.size() >= limits_.depth) {
      fail(DiagCode::YamlLimit, range_of(event),
           fmt::format("lists and mappings are nested more than {} deep", limits_.depth))
          .help = "write it flatter; no policy nests so deep";
      return false;
    }
    YamlNode& node = stream_.nodes_.emplace_back();
    node.kind = kind;
    node.range = range_of(event);
    std::string_view tag = text_of(tag_text);
    std::string_view usual =
        kind == NodeKind::Sequence ? "tag:yaml.org,2002:seq" : "tag:yaml.org,2002:map";
    if (!tag.empty() && tag != "!" && tag != usual) refuse_tag(tag, node.range);
    Frame frame;
    frame.node = &node;
    std::string_view anchor = text_of(anchor_text);
    if (!anchor.empty()) {
      frame.anchor = stream_.strings_.emplace_back(anchor);
      anchors_[std::string(anchor)] = {&node, true, 1, 1};
    }
    frames_.push_back(std::move(frame));
    return true;
  }

  bool on_end(const yaml_event_t& event) {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    YamlNode& node = *frame.node;
    SourceRange mark = range_of(event);
    if (mark.end > mark.begin) {
      node.range.end = mark.end;  // `]` or `}`
    } else {
      // A block collection has no closing mark of its own: it ends with its last child.
      for (const YamlRef& item : node.items) node.range.end = std::max(node.range.end, item.at.end);
      for (const YamlEntry& entry : node.entries) {
        node.range.end = std::max({node.range.end, entry.key_range.end, entry.value.at.end});
      }
      for (const auto& merge : frame.merges) {
        node.range.end = std::max(node.range.end, merge.value.at.end);
      }
    }
    if (node.is_mapping()) {
      check_duplicates(node);
      if (!merge_entries(frame)) return false;
    }
    if (!frame.anchor.empty()) {
      Anchor& anchor = anchors_[std::string(frame.anchor)];
      // The name may have been given again inside.
      if (anchor.node == &node) anchor = {&node, false, frame.size, frame.height};
    }
    return attach({&node, node.range}, frame.size, frame.height);
  }

  bool on_alias(const yaml_event_t& event) {
    SourceRange where = range_of(event);
    std::string_view name = text_of(event.data.alias.anchor);
    auto it = anchors_.find(std::string(name));
    if (it == anchors_.end()) {
      fail_document(DiagCode::YamlAlias, where,
                    fmt::format("`*{}` refers to an anchor `&{}` that does not stand above it in "
                                "this document",
                                name, name));
      return attach({&stream_.nodes_.emplace_back(), where}, 1, 1);
    }
    const Anchor& anchor = it->second;
    if (anchor.open) {
      Diagnostic& d =
          fail_document(DiagCode::YamlAlias, where, fmt::format("`*{}` contains itself", name));
      d.labels.push_back({anchor.node->range, "the anchor stands here"});
      d.help = "write the value out";
      return attach({&stream_.nodes_.emplace_back(), where}, 1, 1);
    }
    if (!spend(anchor.size, where)) return false;
    if (frames_.size() + anchor.height - 1 > limits_.depth) {
      fail(DiagCode::YamlLimit, where,
           fmt::format("lists and mappings are nested more than {} deep", limits_.depth))
          .help = "write it flatter; no policy nests so deep";
      return false;
    }
    return attach({anchor.node, where}, anchor.size, anchor.height);
  }

  // Takes nodes that an alias or merge repeats from the budget.
  bool spend(std::size_t nodes, SourceRange where) {
    expanded_ += nodes;
    if (expanded_ <= limits_.expanded_nodes) return true;
    fail(DiagCode::YamlLimit, where,
         fmt::format("aliases expand to more than {} values", limits_.expanded_nodes));
    return false;
  }

  bool attach(YamlRef ref, std::size_t size, std::size_t height) {
    if (frames_.empty()) {
      root_ = ref;
      return true;
    }
    Frame& frame = frames_.back();
    frame.size += size;
    frame.height = std::max(frame.height, height + 1);
    if (frame.node->is_sequence()) {
      frame.node->items.push_back(ref);
      return true;
    }
    if (!frame.has_key) {
      take_key(frame, ref);
      return true;
    }
    frame.has_key = false;
    if (frame.key_is_merge) {
      frame.merges.push_back({ref, size});
      return true;
    }
    frame.node->entries.push_back({frame.key, frame.key_range, ref, false, frame.key_written});
    return true;
  }

  void take_key(Frame& frame, YamlRef ref) {
    const YamlNode& key = *ref.node;
    frame.has_key = true;
    frame.key = key.text;
    frame.key_written = {};
    frame.key_range = ref.at;
    frame.key_is_merge = key.plain && key.text == "<<";
    if (!key.is_scalar()) {
      bool helm = text_.substr(ref.at.begin, 2) == "{{" ||
                  (ref.at.begin > 0 && text_.substr(ref.at.begin - 1, 2) == "{{");
      if (helm) {
        template_error(ref.at);
      } else {
        fail_document(DiagCode::YamlKey, ref.at, "a key must be a text, not a list or a mapping");
      }
    } else if (key.kind == NodeKind::Null) {
      fail_document(DiagCode::YamlKey, ref.at, "a key must be a text, not null");
    } else if (key.kind == NodeKind::Bool) {
      frame.key = boolean(key.text) ? "true" : "false";
      if (frame.key != key.text) frame.key_written = key.text;
    }
  }

  void check_duplicates(const YamlNode& node) {
    auto clash = [&](const YamlEntry& first, const YamlEntry& second) {
      report_duplicate(first, second);
    };
    if (node.entries.size() <= 16) {
      for (std::size_t i = 1; i < node.entries.size(); ++i) {
        for (std::size_t k = 0; k < i; ++k) {
          if (node.entries[k].key != node.entries[i].key) continue;
          clash(node.entries[k], node.entries[i]);
          break;
        }
      }
      return;
    }
    std::unordered_map<std::string_view, std::size_t> seen;
    for (std::size_t i = 0; i < node.entries.size(); ++i) {
      auto [it, fresh] = seen.emplace(node.entries[i].key, i);
      if (!fresh) clash(node.entries[it->second], node.entries[i]);
    }
  }

  void report_duplicate(const YamlEntry& first, const YamlEntry& second) {
    bool top = frames_.empty();
    if (glued_ && top) return;  // the rest of the second object
    if (top && one_of(second.key, {"apiVersion", "kind"})) {
      glued_ = true;
      Diagnostic& d = fail_document(
          DiagCode::MissingSeparator, second.key_range,
          fmt::format("a second `{}` in one document; a line `---` is missing between two "
                      "objects",
                      second.key));
      d.labels.push_back({first.key_range, "the first object starts here"});
      std::uint32_t begin = second.key_range.begin;
      if (begin > 0 && text_[begin - 1] == '\n') {
        d.fix = Fix{"separate the two objects", {{range(begin, begin), "---\n"}}};
      }
      return;
    }
    fail_document(DiagCode::DuplicateKey, second.key_range,
                  fmt::format("the key `{}` stands twice in one mapping", second.key))
        .labels.push_back({first.key_range, "the first one stands here"});
  }

  bool merge_entries(Frame& frame) {
    if (frame.merges.empty()) return true;
    std::unordered_set<std::string_view> own;
    for (const YamlEntry& entry : frame.node->entries) own.insert(entry.key);
    for (const auto& [value, size] : frame.merges) {
      if (!spend(size, value.at)) return false;
      std::vector<YamlRef> sources = value.node->items;
      if (!value.node->is_sequence()) sources = {value};
      for (const YamlRef& source : sources) {
        if (!source.node->is_mapping()) {
          fail_document(DiagCode::YamlAlias, source.at,
                        "`<<` takes a mapping or a list of mappings")
              .help = "write `<<: *name` of a mapping that is marked `&name` above";
          continue;
        }
        for (const YamlEntry& entry : source.node->entries) {
          if (!own.insert(entry.key).second) continue;
          YamlEntry copy = entry;
          copy.value.at = source.at;
          copy.merged = true;
          frame.node->entries.push_back(copy);
        }
      }
    }
    return true;
  }

  // -- errors --------------------------------------------------------------------------------

  void template_error(SourceRange where) {
    fail_document(DiagCode::TemplateText, where, "looks like a Helm template, not like YAML").help =
        "render it first: `helm template … | policyc lint -`";
  }

  void syntax_error(const yaml_parser_t& parser) {
    std::size_t offset = parser.error == YAML_READER_ERROR ? bom_ + parser.problem_offset
                                                           : byte_at(parser.problem_mark.index);
    std::size_t context = parser.context != nullptr ? byte_at(parser.context_mark.index) : offset;
    std::string_view problem = parser.problem == nullptr ? std::string_view() : parser.problem;
    if (parser.error == YAML_MEMORY_ERROR) problem = "out of memory";
    if (auto tab = tab_indentation(offset)) {
      fail(DiagCode::TabIndentation, at(*tab), "tab used for indentation").help =
          "YAML indents with spaces only: replace the tab by spaces";
      return;
    }
    if (text_.find("{{") != std::string_view::npos && text_.find("}}") != std::string_view::npos) {
      template_error(at(offset));
      return;
    }
    bool unterminated = problem == "found unexpected end of stream" ||
                        problem == "found unexpected document indicator";
    bool open = unterminated || problem == "did not find expected ',' or ']'" ||
                problem == "did not find expected ',' or '}'";
    bool no_colon = problem == "could not find expected ':'";
    Diagnostic& d = fail(DiagCode::YamlSyntax, at(open || no_colon ? context : offset),
                         explain_problem(problem));
    d.help.clear();
    if (problem == "did not find expected key") {
      if (auto closed = closing_mark_before(offset)) {
        d.message = fmt::format("text after the closing `{}`", *closed);
        d.help = "put the whole value in quotes, or a comma or a new line before the text";
        return;
      }
    }
    if (problem == "found character that cannot start any token" && offset < text_.size()) {
      d.message = fmt::format("`{}` cannot start a value; put the value in quotes", text_[offset]);
    }
    if (line_of(offset).find("${") != std::string_view::npos) {
      d.help = "inside `[ ]` and `{ }` a `${VAR}` needs quotes";
    }
    if (open && context != offset) {
      if (offset < text_.size()) d.labels.push_back({at(offset), "found this instead"});
    } else if (context != offset && !no_colon) {
      d.labels.push_back({at(context), "it starts here"});
    }
  }

  std::string_view line_of(std::size_t offset) const {
    offset = std::min(offset, text_.size());
    std::size_t begin = offset == 0 ? std::string_view::npos : text_.rfind('\n', offset - 1);
    begin = begin == std::string_view::npos ? 0 : begin + 1;
    return text_.substr(begin, text_.find('\n', offset) - begin);
  }

  // The bracket or quotation mark that ends the text before `offset` on the same line.
  std::optional<char> closing_mark_before(std::size_t offset) const {
    offset = std::min(offset, text_.size());
    while (offset > 0 && text_[offset - 1] == ' ') --offset;
    if (offset == 0) return std::nullopt;
    const char c = text_[offset - 1];
    return c == ']' || c == '}' || c == '"' || c == '\'' ? std::optional(c) : std::nullopt;
  }

  // A tab in the white space that starts the line of `offset` or, where that line has none, the
  // line above it.
  std::optional<std::size_t> tab_indentation(std::size_t offset) const {
    offset = std::min(offset, text_.size());
    std::size_t end = offset;
    for (int line = 0; line < 2; ++line) {
      std::size_t start = end == 0 ? std::string_view::npos : text_.rfind('\n', end - 1);
      start = start == std::string_view::npos ? 0 : start + 1;
      for (std::size_t i = start; i < text_.size(); ++i) {
        if (text_[i] == '\t') return i;
        if (text_[i] != ' ' && text_[i] != '-') break;
      }
      if (start == 0) break;
      end = start - 1;
    }
    return std::nullopt;
  }

  std::string_view text_;
  FileId file_;
  DiagnosticSink& sink_;
  YamlLimits limits_;
  std::size_t bom_;  // bytes of a byte order mark, which libyaml does not see
  OffsetMap offsets_;
  YamlStream stream_;
  YamlRef root_;
  std::vector<Frame> frames_;
  std::unordered_map<std::string, Anchor> anchors_;
  std::size_t expanded_ = 0;
  std::size_t findings_ = 0;
  Diagnostic unwanted_;
  std::size_t document_begin_ = 0;
  std::uint32_t next_index_ = 0;
  bool glued_ = false;
  bool document_ok_ = true;
};

YamlStream read_yaml(const SourceMap& sources, FileId file, DiagnosticSink& sink,
                     const YamlLimits& limits) {
  return YamlBuilder(sources, file, sink, limits).run();
}

}  // namespace policyc::frontend
