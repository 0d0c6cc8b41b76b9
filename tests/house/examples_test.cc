// The examples do what their transcripts show. A transcript is what a reader would see:
//
//   # a comment
//   $ policyc lint .
//   …the output, both streams…
//   [exit 1]
//
// `[exit N]` stands only where N is not 0. Commands run in the example's folder by /bin/sh;
// `policyc` is the program of this build and $OUT an empty folder of the test's own, shared by the
// commands of one transcript. Numbers that change from run to run are masked (`<n> ns`, `<n> ms`).
// A transcript whose name contains `kernel` needs bpf(): a command that answers 3 (this machine
// cannot) skips the rest, or fails it with POLICYC_REQUIRE_BPF=1.
// POLICYC_UPDATE=1 rewrites the transcripts from what the commands print; CI never does.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

namespace policyc::house {
namespace {

namespace fs = std::filesystem;

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

bool set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' && std::string(value) != "0";
}

std::vector<fs::path> transcripts() {
  std::vector<fs::path> out;
  for (const auto& e :
       fs::recursive_directory_iterator(fs::path(POLICYC_SOURCE_DIR) / "examples")) {
    const std::string name = e.path().filename().string();
    if (name.starts_with("transcript") && name.ends_with(".txt")) out.push_back(e.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

struct Ran {
  int exit = 0;
  std::string output;
};

Ran run(const std::string& command, const fs::path& folder, const fs::path& out_dir) {
  const std::string line = fmt::format(
      "cd '{}' && exec 2>&1 </dev/null; export OUT='{}' PATH='{}':\"$PATH\" LC_ALL=C; {}",
      folder.string(), out_dir.string(), POLICYC_BINARY_DIR, command);
  FILE* pipe = popen(line.c_str(), "r");
  if (pipe == nullptr) return {-1, "popen failed"};
  Ran ran;
  std::array<char, 4096> part{};
  for (std::size_t n = 0; (n = std::fread(part.data(), 1, part.size(), pipe)) > 0;) {
    ran.output.append(part.data(), n);
  }
  const int status = pclose(pipe);
  ran.exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (!ran.output.empty() && ran.output.back() != '\n') ran.output += '\n';
  const std::string dir = out_dir.string();
  for (std::size_t at = ran.output.find(dir); at != std::string::npos;
       at = ran.output.find(dir, at)) {
    ran.output.replace(at, dir.size(), "$OUT");
  }
  static const std::regex timing(R"((\d+(\.\d+)?) (ns|us|ms|s)\b)");
  ran.output = std::regex_replace(ran.output, timing, "<n> $3");
  return ran;
}

// An empty folder that goes when the test ends.
class Scratch {
 public:
  Scratch() {
    std::string name = (fs::temp_directory_path() / "policyc-example-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~Scratch() {
    if (!path_.empty()) fs::remove_all(path_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// A transcript as its commands would write it today.
struct Replayed {
  std::string text;
  std::string unable;  // the command that this machine cannot run, and what it said
  int commands = 0;
};

Replayed replay(const std::string& transcript, const fs::path& folder, const fs::path& out_dir,
                bool may_be_unable) {
  Replayed out;
  std::istringstream rows(transcript);
  for (std::string row; std::getline(rows, row);) {
    if (row.starts_with('#')) out.text += row + "\n";
    if (!row.starts_with("$ ")) continue;
    ++out.commands;
    const Ran ran = run(row.substr(2), folder, out_dir);
    if (may_be_unable && ran.exit == 3) {
      out.unable = row + "\n" + ran.output;
      return out;
    }
    out.text += row + "\n" + ran.output;
    if (ran.exit != 0) out.text += fmt::format("[exit {}]\n", ran.exit);
    out.text += "\n";
  }
  return out;
}

bool updating() {
  return set("POLICYC_UPDATE") && !set("CI");
}

class Example : public testing::TestWithParam<fs::path> {};

TEST_P(Example, DoesWhatItsTranscriptShows) {
  const fs::path file = GetParam();
  const std::string expected = slurp(file);
  const Scratch scratch;
  ASSERT_FALSE(scratch.path().empty());
  const bool kernel = file.filename().string().find("kernel") != std::string::npos;
  const Replayed seen = replay(expected, file.parent_path(), scratch.path(), kernel);
  ASSERT_GT(seen.commands, 0) << file << " holds no command";
  if (!seen.unable.empty()) {
    ASSERT_FALSE(set("POLICYC_REQUIRE_BPF")) << seen.unable;
    GTEST_SKIP() << seen.unable;
  }
  if (updating()) {
    if (seen.text != expected) std::ofstream(file, std::ios::binary) << seen.text;
    return;
  }
  EXPECT_EQ(seen.text, expected) << "POLICYC_UPDATE=1 ctest -R Example rewrites " << file.string();
}

// The README's own transcripts: fenced blocks that begin with ```console. They run at the top of
// the repository, in order, and share one $OUT; from the first command on that this machine cannot
// run, the rest is skipped.
TEST(ReadmeExample, ShowsWhatIsPrinted) {
  const fs::path file = fs::path(POLICYC_SOURCE_DIR) / "README.md";
  const std::string readme = slurp(file);
  const std::string open = "```console\n";
  const Scratch scratch;
  ASSERT_FALSE(scratch.path().empty());
  std::string updated;
  std::string unable;
  std::size_t done = 0;
  int blocks = 0;
  for (std::size_t at = readme.find(open); at != std::string::npos && unable.empty();
       at = readme.find(open, done)) {
    const std::size_t begin = at + open.size();
    const std::size_t end = readme.find("```\n", begin);
    ASSERT_NE(end, std::string::npos) << "a block of README.md is not closed";
    const std::string block = readme.substr(begin, end - begin);
    Replayed seen = replay(block, POLICYC_SOURCE_DIR, scratch.path(), true);
    while (seen.text.ends_with("\n\n")) seen.text.pop_back();
    unable = seen.unable;
    updated += readme.substr(done, begin - done) + (unable.empty() ? seen.text : block);
    done = end;
    ++blocks;
    if (unable.empty() && !updating()) {
      EXPECT_EQ(seen.text, block);
    }
  }
  EXPECT_GT(blocks, 0);
  if (updating() && unable.empty()) {
    std::ofstream(file, std::ios::binary) << updated + readme.substr(done);
  }
  if (!unable.empty()) {
    ASSERT_FALSE(set("POLICYC_REQUIRE_BPF")) << unable;
    GTEST_SKIP() << unable;
  }
}

std::string name_of(const testing::TestParamInfo<fs::path>& info) {
  std::string name =
      info.param.parent_path().filename().string() + "_" + info.param.stem().string();
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Examples, Example, testing::ValuesIn(transcripts()), name_of);

}  // namespace
}  // namespace policyc::house
