#include "frontend/world.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "ir/base/diag_code.h"
#include "ir/identity.h"

namespace policyc::frontend {
namespace {

using Json = nlohmann::json;

// The parsed text, or where it stops being JSON. The one place that catches the library's
// exceptions.
Expected<Json> parse_json_object(const std::string& text) {
  try {
    Json json = Json::parse(text);
    if (!json.is_object()) return Error{"not a JSON object"};
    return json;
  } catch (const Json::parse_error& error) {
    return Error{fmt::format("not JSON: error at byte {}", error.byte)};
  } catch (const Json::exception&) {
    return Error{"not JSON"};
  }
}

std::string lower_name(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (name.size() > 1 && name.back() == '.') name.pop_back();
  return name;
}

Expected<NameTable> read_table(const Json& object, bool lower) {
  NameTable table;
  for (const auto& [key, value] : object.items()) {
    const std::string name = lower ? lower_name(key) : key;
    auto& addresses = table[name];
    const Json list = value.is_array() ? value : Json::array({value});
    for (const Json& item : list) {
      if (!item.is_string()) return Error{fmt::format("`{}`: addresses must be text", key)};
      const auto ip = ir::parse_ip(item.get_ref<const std::string&>());
      if (!ip) {
        return Error{fmt::format("`{}`: `{}` is not an IP address", key,
                                 item.get_ref<const std::string&>())};
      }
      if (std::find(addresses.begin(), addresses.end(), *ip) == addresses.end()) {
        addresses.push_back(*ip);
      }
    }
  }
  return table;
}

}  // namespace

std::optional<Error> read_world_config(const std::string& text, ir::Settings& settings) {
  const auto json = parse_json_object(text);
  if (!json) return Error{json.error()};
  for (const auto& [key, value] : json->items()) {
    bool* flag = key == "ipv4"             ? &settings.ipv4
                 : key == "ipv6"           ? &settings.ipv6
                 : key == "hostFirewall"   ? &settings.host_firewall
                 : key == "cidrMatchNodes" ? &settings.cidr_match_nodes
                                           : nullptr;
    if (flag != nullptr) {
      if (!value.is_boolean()) return Error{fmt::format("`{}` must be true or false", key)};
      *flag = value.get<bool>();
      continue;
    }
    if (key != "enforcement" && key != "allowLocalhost" && key != "clusterName") {
      return Error{fmt::format("unknown key `{}`", key)};
    }
    if (!value.is_string()) return Error{fmt::format("`{}` must be text", key)};
    const std::string& word = value.get_ref<const std::string&>();
    if (key == "clusterName") {
      settings.cluster_name = word;
    } else if (key == "enforcement") {
      if (word == "default") {
        settings.enforcement = ir::Settings::Enforcement::Default;
      } else if (word == "always") {
        settings.enforcement = ir::Settings::Enforcement::Always;
      } else if (word == "never") {
        settings.enforcement = ir::Settings::Enforcement::Never;
      } else {
        return Error{"`enforcement` must be default, always or never"};
      }
    } else {
      if (word != "policy" && word != "always") {
        return Error{"`allowLocalhost` must be policy or always"};
      }
      settings.allow_localhost_policy = word == "policy";
    }
  }
  return std::nullopt;
}

Expected<NameTable> read_fqdn_table(const std::string& text) {
  const auto json = parse_json_object(text);
  if (!json) return Error{json.error()};
  return read_table(*json, true);
}

Expected<Allocations> read_allocations(const std::string& text) {
  const auto json = parse_json_object(text);
  if (!json) return Error{json.error()};
  Allocations out;
  if (const auto addresses = json->find("addresses"); addresses != json->end()) {
    if (!addresses->is_object()) return Error{"`addresses` must be an object"};
    auto table = read_table(*addresses, false);
    if (!table) return Error{table.error()};
    out.addresses = std::move(*table);
  }
  const auto identities = json->find("identities");
  if (identities == json->end()) return out;
  const Error wrong{
      "`identities` must be a list of {\"id\": number from 256 to 65535, \"labels\": "
      "[\"k8s:app=web\"]}"};
  if (!identities->is_array()) return wrong;
  for (const auto& row : *identities) {
    if (!row.is_object() || !row.contains("id") || !row["id"].is_number_unsigned() ||
        !row.contains("labels") || !row["labels"].is_array()) {
      return wrong;
    }
    ir::KnownIdentity identity;
    const auto id = row["id"].get<std::uint64_t>();
    if (id < ir::kIdentityFirstPod || id > 65535) return wrong;
    identity.id = static_cast<std::uint32_t>(id);
    for (const auto& label : row["labels"]) {
      if (!label.is_string()) return wrong;
      identity.labels.push_back(label.get<std::string>());
    }
    out.identities.push_back(std::move(identity));
  }
  return out;
}

bool is_cilium_config(const YamlNode& object) {
  if (object.get_text("kind") != "ConfigMap" || object.get_text("apiVersion") != "v1") return false;
  const YamlNode* metadata = object.get("metadata");
  return metadata != nullptr && metadata->is_mapping() &&
         metadata->get_text("name") == "cilium-config";
}

void read_cilium_config(const YamlNode& object, ir::Settings& settings, DiagnosticSink& sink) {
  const YamlNode* data = object.get("data");
  if (data == nullptr || !data->is_mapping()) return;
  for (const YamlEntry& entry : data->entries) {
    const YamlNode* value = entry.value.node;
    if (value == nullptr || !value->is_scalar() || value->placeholder) continue;
    const std::string_view text = value->text;
    const std::string_view key = entry.key;
    auto wrong = [&](std::string_view wanted) {
      sink.report(DiagCode::BadSetting, value->range,
                  fmt::format("`{}` in cilium-config must be {}, not `{}`", key, wanted, text));
    };
    bool* flag = key == "enable-ipv4"                        ? &settings.ipv4
                 : key == "enable-ipv6"                      ? &settings.ipv6
                 : key == "enable-host-firewall"             ? &settings.host_firewall
                 : key == "enable-l7-proxy"                  ? &settings.l7_proxy
                 : key == "enable-icmp-rules"                ? &settings.icmp_rules
                 : key == "enable-node-selector-labels"      ? &settings.node_selector_labels
                 : key == "enable-sctp"                      ? &settings.sctp
                 : key == "enable-non-default-deny-policies" ? &settings.non_default_deny
                 : key == "policy-default-local-cluster"     ? &settings.default_local_cluster
                                                             : nullptr;
    if (flag != nullptr) {
      if (text == "true" || text == "1") {
        *flag = true;
      } else if (text == "false" || text == "0") {
        *flag = false;
      } else {
        wrong("\"true\" or \"false\"");
      }
    } else if (key == "enable-policy") {
      if (text == "default") {
        settings.enforcement = ir::Settings::Enforcement::Default;
      } else if (text == "always") {
        settings.enforcement = ir::Settings::Enforcement::Always;
      } else if (text == "never") {
        settings.enforcement = ir::Settings::Enforcement::Never;
      } else {
        wrong("default, always or never");
      }
    } else if (key == "allow-localhost") {
      if (text != "auto" && text != "always" && text != "policy") {
        wrong("auto, always or policy");
      } else {
        settings.allow_localhost_policy = text == "policy";
      }
    } else if (key == "policy-cidr-match-mode") {
      if (!text.empty() && text != "nodes") {
        wrong("empty or \"nodes\"");
      } else {
        settings.cidr_match_nodes = text == "nodes";
      }
    } else if (key == "cluster-name") {
      if (!text.empty()) settings.cluster_name = std::string(text);
    } else if (key == "bpf-policy-map-max") {
      std::uint32_t number = 0;
      auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), number);
      if (error != std::errc() || at != text.data() + text.size() || number == 0) {
        wrong("a positive number");
      } else {
        settings.policy_map_max = number;
      }
    } else if (key == "labels") {
      if (auto filter = ir::parse_label_filter(text)) {
        settings.label_filter = std::move(*filter);
      } else {
        sink.report(DiagCode::BadSetting, value->range, filter.error());
      }
    } else if (key == "label-prefix-file" && !text.empty()) {
      sink.report(DiagCode::SettingNotModelled, value->range,
                  "cilium-config takes its label filter from a file (`label-prefix-file`); answers "
                  "assume the default filter");
    }
  }
}

}  // namespace policyc::frontend
