// Cluster settings by name: the same words serve as flags (--enforcement always) and as keys of
// .policyc.yaml (enforcement: always).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/base/expected.h"
#include "ir/inventory.h"

namespace policyc::cli {

struct SettingRow {
  std::string_view name;
  std::string_view values;  // for people: "default|always|never"
  std::string_view help;
  bool flag = false;  // may stand without a value, which then is "true"
};

const std::vector<SettingRow>& setting_rows();

// Sets one; the error names the values it takes.
std::optional<Error> apply_setting(std::string_view name, std::string_view value,
                                   ir::Settings& settings);

}  // namespace policyc::cli
