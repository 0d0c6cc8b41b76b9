// The YAML reader: types, ranges, hostile input, and yaml-cpp's emitter as a second opinion.
#include "frontend/yaml_document.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <yaml-cpp/yaml.h>

#include <chrono>

#include "ir/base/diag_code.h"

namespace policyc::frontend {
namespace {

struct Read {
  SourceMap sources;
  DiagnosticSink sink;
  YamlStream stream;

  explicit Read(std::string text, const YamlLimits& limits = {}) {
    FileId file = sources.add("test.yaml", std::move(text));
    stream = read_yaml(sources, file, sink, limits);
  }
  const YamlNode& root(std::size_t i = 0) const { return *stream.documents().at(i).root; }
  std::string slice(SourceRange range) const { return std::string(sources.slice(range)); }
  // The only finding.
  const Diagnostic& only() const {
    EXPECT_EQ(sink.all().size(), 1U);
    static const Diagnostic none;
    return sink.all().empty() ? none : sink.all().front();
  }
};

void expect_refused(const Read& read, DiagCode code, std::string_view words) {
  EXPECT_FALSE(read.stream.ok());
  ASSERT_FALSE(read.sink.all().empty());
  const Diagnostic& d = read.sink.all().front();
  EXPECT_EQ(diag_name(d.code), diag_name(code)) << d.message;
  EXPECT_NE(d.message.find(words), std::string::npos) << d.message;
  EXPECT_EQ(d.layer, Layer::Yaml);
  EXPECT_TRUE(d.range.known());
}

TEST(YamlTypes, PlainScalarsFollowYaml11) {
  const std::vector<std::pair<std::string, NodeKind>> cases = {
      {"80", NodeKind::Int},           {"\"80\"", NodeKind::String},
      {"'80'", NodeKind::String},      {"yes", NodeKind::Bool},
      {"y", NodeKind::Bool},           {"No", NodeKind::Bool},
      {"on", NodeKind::Bool},          {"OFF", NodeKind::Bool},
      {"true", NodeKind::Bool},        {"tRUE", NodeKind::String},
      {"\"yes\"", NodeKind::String},   {"~", NodeKind::Null},
      {"null", NodeKind::Null},        {"", NodeKind::Null},
      {"010", NodeKind::Int},          {"08", NodeKind::Float},
      {"0x1F", NodeKind::Int},         {"0b11", NodeKind::Int},
      {"0o17", NodeKind::Int},         {"1_000", NodeKind::Int},
      {"-3", NodeKind::Int},           {"1.5", NodeKind::Float},
      {"1e3", NodeKind::Float},        {"5e", NodeKind::String},
      {".inf", NodeKind::Float},       {"10.0.0.0/8", NodeKind::String},
      {"1.2.3", NodeKind::String},     {"2001-01-01", NodeKind::String},
      {"!!str 80", NodeKind::String},  {"! 80", NodeKind::String},
      {"!!int \"80\"", NodeKind::Int}, {"-", NodeKind::Null},
      {"+", NodeKind::String},         {".", NodeKind::String},
  };
  for (const auto& [text, kind] : cases) {
    Read read(fmt::format("k: {}\n", text));
    if (text == "-") continue;  // `k: -` is no YAML
    ASSERT_TRUE(read.stream.ok()) << text;
    EXPECT_EQ(read.root().entries.at(0).value.node->kind, kind) << text;
  }
}

TEST(YamlRanges, AreBytesAlsoAfterNonAscii) {
  Read read("# größe → 日本\nname: \"日本語\"\nports: [80, été]\nlast: 😀x\nend: z\n");
  const YamlNode& root = read.root();
  EXPECT_EQ(read.slice(root.find("name")->key_range), "name");
  EXPECT_EQ(read.slice(root.get("name")->range), "\"日本語\"");
  EXPECT_EQ(root.get("name")->text, "日本語");
  EXPECT_EQ(read.slice(root.get("ports")->range), "[80, été]");
  EXPECT_EQ(read.slice(root.get("ports")->items.at(1).at), "été");
  EXPECT_EQ(read.slice(root.get("last")->range), "😀x");
  EXPECT_EQ(read.slice(root.find("end")->value.at), "z");
}

TEST(YamlRanges, CountCarriageReturnsAndByteOrderMark) {
  Read read(
      "\xEF\xBB\xBF"
      "a: 1\r\nb:\r\n  - x\r\n  - é\r\nc: 2\r\n");
  EXPECT_EQ(read.slice(read.root().find("a")->key_range), "a");
  EXPECT_EQ(read.slice(read.root().get("b")->items.at(1).at), "é");
  EXPECT_EQ(read.slice(read.root().find("c")->value.at), "2");
}

TEST(YamlRanges, BlockCollectionsEndWithTheirLastChild) {
  Read read("spec:\n  a:\n  - x\n  - y: 1\n\n# comment\nnext: |\n  text\n\n\nlast: 1\n");
  EXPECT_EQ(read.slice(read.root().get("spec")->range), "a:\n  - x\n  - y: 1");
  EXPECT_EQ(read.slice(read.root().get("next")->range), "|\n  text");
  EXPECT_EQ(read.root().get("next")->text, "text\n");
}

TEST(YamlStreamTest, DocumentsAndJson) {
  Read read("---\na: 1\n---\n# nothing\n---\n{\"b\": [1, \"x\", null, true]}\n");
  ASSERT_EQ(read.stream.documents().size(), 3U);
  EXPECT_EQ(read.root(0).get_text("a"), "1");
  EXPECT_EQ(read.root(1).kind, NodeKind::Null);
  EXPECT_EQ(read.root(2).get("b")->items.size(), 4U);
  EXPECT_EQ(read.stream.documents()[2].index, 2U);
  EXPECT_TRUE(Read("").stream.ok());
  EXPECT_TRUE(Read("# only a comment\n").stream.documents().empty());
}

TEST(YamlStreamTest, KeepsTheDocumentsBeforeABrokenOne) {
  Read read("a: 1\n---\nb: [1\n---\nc: 1\n");
  EXPECT_FALSE(read.stream.ok());
  ASSERT_EQ(read.stream.documents().size(), 1U);
  EXPECT_EQ(read.root().get_text("a"), "1");
}

TEST(YamlAliases, PointAtTheAliasAndTheAnchor) {
  Read read("a: &x {k: v}\nb: *x\n");
  const YamlEntry* b = read.root().find("b");
  EXPECT_EQ(read.slice(b->value.at), "*x");
  EXPECT_EQ(b->value.node, read.root().get("a"));
}

TEST(YamlKeys, BooleansAreReadAsTheApiServerDoes) {
  Read read("on: a\nNO: b\n\"y\": c\n");
  EXPECT_EQ(read.root().get_text("true"), "a");
  EXPECT_EQ(read.root().get_text("false"), "b");
  EXPECT_EQ(read.root().get_text("y"), "c");
  EXPECT_EQ(read.root().find("true")->key_written, "on");
}

TEST(YamlAliases, MergeKeysGiveWayToOwnKeys) {
  Read read("base: &b {x: 1, w: 2}\nmore: &m {w: 3, z: 4}\nc:\n  x: 9\n  <<: [*b, *m]\n");
  ASSERT_TRUE(read.stream.ok());
  const YamlNode& c = *read.root().get("c");
  ASSERT_EQ(c.entries.size(), 3U);
  EXPECT_EQ(c.get_text("x"), "9");
  EXPECT_EQ(c.get_text("w"), "2");
  EXPECT_EQ(c.get_text("z"), "4");
  EXPECT_TRUE(c.find("z")->merged);
  EXPECT_FALSE(c.find("x")->merged);
  EXPECT_EQ(read.slice(c.find("z")->value.at), "*m");
}

TEST(YamlAliases, UnknownRecursiveAndAcrossDocuments) {
  expect_refused(Read("a: *nope\n"), DiagCode::YamlAlias, "`*nope`");
  expect_refused(Read("a: &a [*a]\n"), DiagCode::YamlAlias, "contains itself");
  expect_refused(Read("a: &x 1\n---\nb: *x\n"), DiagCode::YamlAlias, "`*x`");
  expect_refused(Read("a: &x 1\nb: {<<: *x}\n"), DiagCode::YamlAlias, "`<<`");
}

TEST(YamlPlaceholders, AreMarked) {
  Read read("a: ${LAN}\nb: \"*.${DNS:=x}\"\nc: $(VAR)\nd: ^(a|b)$\ne: a$(x|y)\nf: \"${\"\n");
  ASSERT_TRUE(read.stream.ok());
  EXPECT_TRUE(read.root().get("a")->placeholder);
  EXPECT_TRUE(read.root().get("b")->placeholder);
  EXPECT_TRUE(read.root().get("c")->placeholder);
  EXPECT_FALSE(read.root().get("d")->placeholder);
  EXPECT_FALSE(read.root().get("e")->placeholder);
  EXPECT_FALSE(read.root().get("f")->placeholder);
}

TEST(YamlErrors, SayWhatIsWrong) {
  expect_refused(Read("a:\n\t- b\n"), DiagCode::TabIndentation, "tab used for indentation");
  expect_refused(Read("a:\n  b: 1\n\tc: 2\n"), DiagCode::TabIndentation, "tab");
  expect_refused(Read("a: \"x\nb: 1\n"), DiagCode::YamlSyntax, "never ends");
  expect_refused(Read("a: 'x\nb: 1\n"), DiagCode::YamlSyntax, "never ends");
  expect_refused(Read("a: [1, 2\n"), DiagCode::YamlSyntax, "`[` never ends");
  expect_refused(Read("a: {b: 1\n"), DiagCode::YamlSyntax, "`{` never ends");
  expect_refused(Read("a: @x\n"), DiagCode::YamlSyntax, "`@` cannot start");
  expect_refused(Read("a: b\n  c: d\n"), DiagCode::YamlSyntax, "`:` starts a value");
  expect_refused(Read("a: 1\nfree text\n"), DiagCode::YamlSyntax, "no `:`");
  expect_refused(Read("a: !Ref x\n"), DiagCode::YamlTag, "`!Ref`");
  expect_refused(Read("a: !!binary x\n"), DiagCode::YamlTag, "binary");
  expect_refused(Read("? [a]\n: 1\n"), DiagCode::YamlKey, "key");
  expect_refused(Read("~: 1\n"), DiagCode::YamlKey, "null");
}

TEST(YamlErrors, PlaceholdersInFlowStyleNeedQuotes) {
  const Read read("a: [${LAN}]\n");
  expect_refused(read, DiagCode::YamlSyntax, "");
  EXPECT_NE(read.only().help.find("quotes"), std::string::npos);
}

TEST(YamlErrors, UnterminatedTextPointsAtItsStart) {
  Read read("a: 1\nb: \"x\nc: 1\n");
  EXPECT_EQ(read.sources.place(read.only().range), "test.yaml:2:4");
}

TEST(YamlErrors, TemplatesAreRecognised) {
  Read block("{{- if .Values.on }}\na: 1\n{{- end }}\n");
  expect_refused(block, DiagCode::TemplateText, "Helm");
  EXPECT_NE(block.only().help.find("helm template"), std::string::npos);
  expect_refused(Read("name: {{ .Values.name }}\n"), DiagCode::TemplateText, "Helm");
}

TEST(YamlErrors, DuplicateKeysShowBothPlaces) {
  Read read("a:\n  b: 1\n  c: 2\n  b: 3\n");
  expect_refused(read, DiagCode::DuplicateKey, "`b`");
  EXPECT_EQ(read.sources.place(read.only().range), "test.yaml:4:3");
  ASSERT_EQ(read.only().labels.size(), 1U);
  EXPECT_EQ(read.sources.place(read.only().labels[0].range), "test.yaml:2:3");
  EXPECT_TRUE(read.stream.documents().empty());
}

TEST(YamlErrors, GluedDocumentsGetASeparator) {
  std::string text =
      "apiVersion: v1\nkind: A\nmetadata: {name: a}\napiVersion: v1\nkind: B\nmetadata: {name: "
      "b}\n";
  Read read(text);
  expect_refused(read, DiagCode::MissingSeparator, "`---`");
  const Diagnostic& d = read.only();
  ASSERT_TRUE(d.fix.has_value());
  text.insert(d.fix->edits.at(0).range.begin, d.fix->edits.at(0).text);
  EXPECT_EQ(Read(text).stream.documents().size(), 2U);
}

TEST(YamlErrors, ADocumentWithDuplicatesDoesNotHideTheNext) {
  Read read("a: 1\na: 2\n---\nb: 1\n");
  EXPECT_FALSE(read.stream.ok());
  ASSERT_EQ(read.stream.documents().size(), 1U);
  EXPECT_EQ(read.stream.documents()[0].index, 1U);
}

TEST(YamlHostile, Encodings) {
  expect_refused(Read(std::string("\xFF\xFE"
                                  "a\0:\0",
                                  6)),
                 DiagCode::NotUtf8, "UTF-16");
  expect_refused(Read(std::string("\xFE\xFF\0a\0:", 6)), DiagCode::NotUtf8, "UTF-16");
  expect_refused(Read(std::string("\xFF\xFE\0\0a\0\0\0:\0\0\0", 12)), DiagCode::NotUtf8, "UTF-32");
  expect_refused(Read(std::string("\0\0\xFE\xFF\0\0\0a\0\0\0:", 12)), DiagCode::NotUtf8, "UTF-32");
  // A NUL character after the mark of UTF-16 is no mark of UTF-32.
  expect_refused(Read(std::string("\xFF\xFE"
                                  "a\0\0\0",
                                  6)),
                 DiagCode::NotUtf8, "UTF-16");
  expect_refused(Read(std::string("a: \0b\n", 6)), DiagCode::NotUtf8, "NUL");
  expect_refused(Read("a: \xFF\n"), DiagCode::NotUtf8, "0xFF");
  expect_refused(Read("a: \xC0\xAF\n"), DiagCode::NotUtf8, "0xC0");      // overlong
  expect_refused(Read("a: \xED\xA0\x80\n"), DiagCode::NotUtf8, "0xED");  // surrogate
  expect_refused(Read("a: \xE2\x82"), DiagCode::NotUtf8, "0xE2");        // cut off
  expect_refused(Read("a: \x01\n"), DiagCode::YamlSyntax, "control character");
}

std::string repeat(std::string_view part, std::size_t n) {
  std::string all;
  for (std::size_t i = 0; i < n; ++i) all += part;
  return all;
}

// Everything here must be over in far less than a second.
TEST(YamlHostile, DeepNestingIsRefusedAtOnce) {
  auto start = std::chrono::steady_clock::now();
  for (std::size_t n : {std::size_t{101}, std::size_t{100'000}}) {
    expect_refused(Read(repeat("[", n) + repeat("]", n)), DiagCode::YamlLimit, "nested");
    expect_refused(Read(repeat("[", n)), DiagCode::YamlLimit, "nested");
    expect_refused(Read(repeat("{a: ", n)), DiagCode::YamlLimit, "nested");
    expect_refused(Read(repeat("- ", n) + "x"), DiagCode::YamlLimit, "nested");
    expect_refused(Read(repeat("? ", n) + "x"), DiagCode::YamlLimit, "nested");
  }
  EXPECT_TRUE(Read(repeat("[", 100) + repeat("]", 100)).stream.ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(YamlHostile, AliasBombsRunOutOfBudget) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    bomb +=
        fmt::format("a{0}: &a{0} [*a{1}{2}]\n", i, i - 1, repeat(fmt::format(", *a{}", i - 1), 9));
  }
  expect_refused(Read(bomb), DiagCode::YamlLimit, "aliases expand");

  std::string merges = "m0: &m0 {a: 1}\n";
  for (int i = 1; i < 40; ++i) {
    merges += fmt::format("m{0}: &m{0} {{<<: [*m{1}, *m{1}], k{0}: *m{1}}}\n", i, i - 1);
  }
  expect_refused(Read(merges), DiagCode::YamlLimit, "");
}

TEST(YamlHostile, ChainsOfAliasesCountAsDepth) {
  std::string chain = "- &a0 [x]\n";
  for (int i = 1; i < 300; ++i) chain += fmt::format("- &a{} [*a{}]\n", i, i - 1);
  expect_refused(Read(chain), DiagCode::YamlLimit, "nested");
}

TEST(YamlHostile, LargeThingsStayLinear) {
  auto start = std::chrono::steady_clock::now();
  std::string keys;
  for (int i = 0; i < 200'000; ++i) keys += fmt::format("k{}: v\n", i);
  EXPECT_EQ(Read(keys).root().entries.size(), 200'000U);
  Read same(repeat("k: v\n", 100'000));
  expect_refused(same, DiagCode::DuplicateKey, "`k`");
  EXPECT_LT(same.sink.all().size(), 100U);
  Read unknown(repeat("- *x\n", 100'000));
  EXPECT_LT(unknown.sink.all().size(), 100U);
  std::string anchors;
  for (int i = 0; i < 50'000; ++i) anchors += fmt::format("- &a{0} x\n- *a{0}\n", i);
  EXPECT_TRUE(Read(anchors).stream.ok());
  expect_refused(Read("a: \"" + repeat("\n", 500'000)), DiagCode::YamlSyntax, "never ends");
  expect_refused(Read(repeat("k", 2'000) + ": 1"), DiagCode::YamlSyntax, "");
  expect_refused(Read("a: " + repeat("k", 2'000'000)), DiagCode::YamlLimit, "2000000");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(YamlHostile, FileSizeLimit) {
  YamlLimits limits;
  limits.file_bytes = 10;
  expect_refused(Read("a: 123456789\n", limits), DiagCode::YamlLimit, "13 bytes");
}

// -- yaml-cpp as a second opinion --------------------------------------------------------------

struct Tree {
  int kind = 0;  // 0 text, 1 list, 2 mapping
  std::string text;
  std::vector<Tree> children;
  bool flow = false;
};

rc::Gen<std::string> gen_text() {
  return rc::gen::oneOf(
      rc::gen::elementOf(std::vector<std::string>{
          "80",   "yes", "null", "",     "~",  "a b",   " lead",     "trail ", "x: y",
          "# no", "- x", "é",    "日本", "😀",  "\"q\"", "it's",      "a\nb",   "tab\there",
          "{",    "*x",  "&x",   "!t",   "%d", "@at",   "0.0.0.0/0", "k8s:app"}),
      rc::gen::container<std::string>(rc::gen::inRange<char>(32, 127)));
}

rc::Gen<Tree> gen_tree(int depth) {
  auto leaf = rc::gen::map(gen_text(), [](std::string text) {
    return Tree{0, std::move(text), {}, false};
  });
  if (depth == 0) return leaf;
  return rc::gen::exec([depth, leaf] {
    int kind = *rc::gen::inRange(0, 3);
    if (kind == 0) return *leaf;
    Tree tree{kind, "", {}, *rc::gen::arbitrary<bool>()};
    int n = *rc::gen::inRange(0, 4);
    for (int i = 0; i < n; ++i) tree.children.push_back(*gen_tree(depth - 1));
    return tree;
  });
}

void emit(YAML::Emitter& out, const Tree& tree) {
  if (tree.kind == 0) {
    out << YAML::DoubleQuoted << tree.text;
    return;
  }
  if (tree.flow) out << YAML::Flow;
  if (tree.kind == 1) {
    out << YAML::BeginSeq;
    for (const Tree& child : tree.children) emit(out, child);
    out << YAML::EndSeq;
    return;
  }
  out << YAML::BeginMap;
  int i = 0;
  for (const Tree& child : tree.children) {
    out << YAML::Key << fmt::format("k{}", i++) << YAML::Value;
    emit(out, child);
  }
  out << YAML::EndMap;
}

void check_equal(const Tree& tree, const YamlNode& node) {
  if (tree.kind == 0) {
    RC_ASSERT(node.is_scalar());
    RC_ASSERT(std::string(node.text) == tree.text);
    return;
  }
  if (tree.kind == 1) {
    RC_ASSERT(node.is_sequence());
    RC_ASSERT(node.items.size() == tree.children.size());
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      check_equal(tree.children[i], *node.items[i].node);
    }
    return;
  }
  RC_ASSERT(node.is_mapping());
  RC_ASSERT(node.entries.size() == tree.children.size());
  for (std::size_t i = 0; i < node.entries.size(); ++i) {
    RC_ASSERT(node.entries[i].key == fmt::format("k{}", i));
    check_equal(tree.children[i], *node.entries[i].value.node);
  }
}

RC_GTEST_PROP(YamlProperty, WhatYamlCppWritesReadsBackEqual, ()) {
  Tree tree = *gen_tree(4);
  YAML::Emitter out;
  emit(out, tree);
  RC_PRE(out.good());
  Read read(std::string(out.c_str()) + "\n");
  RC_ASSERT(read.stream.ok());
  RC_ASSERT(read.stream.documents().size() == 1U);
  check_equal(tree, read.root());
}

// Every scalar's range, read alone, gives the same text again.
void check_ranges(const Read& read, const YamlNode& node) {
  RC_ASSERT(node.range.begin <= node.range.end);
  if (node.is_scalar()) {
    Read again(read.slice(node.range));
    RC_ASSERT(again.stream.ok());
    RC_ASSERT(std::string(again.root().text) == std::string(node.text));
  }
  for (const YamlRef& item : node.items) check_ranges(read, *item.node);
  for (const YamlEntry& entry : node.entries) {
    RC_ASSERT(read.slice(entry.key_range) == std::string(entry.key));
    check_ranges(read, *entry.value.node);
  }
}

RC_GTEST_PROP(YamlProperty, RangesNameTheText, ()) {
  Tree tree = *gen_tree(4);
  YAML::Emitter out;
  emit(out, tree);
  RC_PRE(out.good());
  Read read(fmt::format("# ä€😀\n{}\n", out.c_str()));
  RC_ASSERT(read.stream.ok());
  check_ranges(read, read.root());
}

RC_GTEST_PROP(YamlProperty, NoTextCrashesAndEveryRefusalHasAFinding, ()) {
  auto text = *rc::gen::container<std::string>(
      rc::gen::elementOf(std::string("ab:- \n\t[]{},&*!|>'\"#%@?<<~0.$(é\xFF")));
  Read read(text);
  RC_ASSERT(read.stream.ok() == read.sink.all().empty());
}

}  // namespace
}  // namespace policyc::frontend
