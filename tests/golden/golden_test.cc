// Runs the command of every case in testdata/golden in a copy of its folder and compares what it
// prints, how it exits and which files it leaves. POLICYC_UPDATE=1 writes what was seen instead.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// An expectation that equals its default needs no file.
void write(const fs::path& path, const std::string& text, const std::string& absent) {
  if (text == absent) {
    fs::remove(path);
  } else {
    std::ofstream(path, std::ios::binary) << text;
  }
}

bool updating() {
  const char* update = std::getenv("POLICYC_UPDATE");
  return update != nullptr && *update != 0 && std::string(update) != "0";
}

bool is_expectation(const std::string& name) {
  return name == "cmd" || name == "stdout" || name == "stderr" || name == "exit" || name == "after";
}

class GoldenTest : public ::testing::Test {
 public:
  explicit GoldenTest(fs::path folder) : folder_(std::move(folder)) {}

  void TestBody() override {
    std::string name = (fs::temp_directory_path() / "policyc-golden-XXXXXX").string();
    const fs::path top = mkdtemp(name.data());
    const fs::path work = top / "work";
    fs::create_directory(work);
    for (const auto& entry : fs::directory_iterator(folder_)) {
      if (is_expectation(entry.path().filename().string())) continue;
      fs::copy(entry.path(), work / entry.path().filename(), fs::copy_options::recursive);
    }
    const std::string line = "cd '" + work.string() +
                             "' && export PATH='" POLICYC_BINARY_DIR
                             "':\"$PATH\" LC_ALL=C.UTF-8 TERM=dumb && { " +
                             read(folder_ / "cmd") + "\n} >../stdout 2>../stderr </dev/null";
    const int status = std::system(line.c_str());
    ASSERT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
    constexpr int kImpossible = 3;  // this machine, or this build, cannot do it
    if (WEXITSTATUS(status) == kImpossible && read(folder_ / "exit") != "3\n") {
      const std::string why = read(top / "stderr");
      fs::remove_all(top);
      if (std::getenv("POLICYC_REQUIRE_BPF") != nullptr) FAIL() << why;
      GTEST_SKIP() << "skipped: " << why;
    }
    const std::string exit_code = std::to_string(WEXITSTATUS(status)) + "\n";
    check("stdout", read(top / "stdout"), "");
    check("stderr", read(top / "stderr"), "");
    check("exit", exit_code, "0\n");
    check_files(work);
    fs::remove_all(top);
  }

 private:
  void check(const std::string& name, const std::string& seen, const std::string& absent) {
    const fs::path file = folder_ / name;
    if (updating()) return write(file, seen, absent);
    EXPECT_EQ(fs::exists(file) ? read(file) : absent, seen) << name << " of " << folder_;
  }

  // `after/` holds the files that the command must have written, as they must be.
  void check_files(const fs::path& work) {
    const fs::path after = folder_ / "after";
    if (!fs::exists(after)) return;
    for (const auto& entry : fs::recursive_directory_iterator(after)) {
      if (!entry.is_regular_file()) continue;
      const fs::path seen = work / fs::relative(entry.path(), after);
      if (updating()) {
        fs::copy_file(seen, entry.path(), fs::copy_options::overwrite_existing);
      } else {
        EXPECT_EQ(read(entry.path()), read(seen)) << "after/ of " << folder_;
      }
    }
  }

  fs::path folder_;
};

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const fs::path root = fs::path(POLICYC_SOURCE_DIR) / "testdata" / "golden";
  std::vector<fs::path> cases;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.path().filename() == "cmd") cases.push_back(entry.path().parent_path());
  }
  std::sort(cases.begin(), cases.end());
  for (const fs::path& folder : cases) {
    std::string name = fs::relative(folder, root).string();
    // A dash in a filter of GoogleTest begins what is left out: ctest would run nothing, and be
    // content.
    for (char& c : name) {
      if (c == '/' || c == '-') c = '_';
    }
    ::testing::RegisterTest("Golden", name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                            [folder]() -> GoldenTest* { return new GoldenTest(folder); });
  }
  return RUN_ALL_TESTS();
}
