#include <unistd.h>

#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "cli/command.h"
#include "ir/base/check.h"

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  std::cin.tie(nullptr);
  policyc::cli::Env env{std::cin, std::cout, std::cerr, isatty(1) == 1, isatty(2) == 1};
  try {
    const int code =
        policyc::cli::run_policyc(std::vector<std::string>(argv + 1, argv + argc), env);
    std::cout.flush();
    return code;
  } catch (const std::exception& e) {
    policyc::internal_error(__FILE__, __LINE__, e.what());
  }
}
