#include "frontend/parse_policy.h"

#include <fmt/format.h>

#include "frontend/read_parts.h"
#include "ir/base/diag_code.h"
#include "ir/ip.h"

namespace policyc::frontend {

std::string policy_kind_name(PolicyKind kind) {
  switch (kind) {
    case PolicyKind::CiliumNetworkPolicy:
      return "CiliumNetworkPolicy";
    case PolicyKind::CiliumClusterwideNetworkPolicy:
      return "CiliumClusterwideNetworkPolicy";
    case PolicyKind::NetworkPolicy:
      return "NetworkPolicy";
    case PolicyKind::CiliumCidrGroup:
      return "CiliumCIDRGroup";
  }
  return "";
}

std::optional<PolicyKind> policy_kind_of(const YamlNode& object) {
  const std::string_view kind = object.get_text("kind");
  const std::string_view version = object.get_text("apiVersion");
  const std::string_view group = version.substr(0, version.find('/'));
  for (PolicyKind known :
       {PolicyKind::CiliumNetworkPolicy, PolicyKind::CiliumClusterwideNetworkPolicy,
        PolicyKind::NetworkPolicy, PolicyKind::CiliumCidrGroup}) {
    if (kind != policy_kind_name(known)) continue;
    if (known == PolicyKind::NetworkPolicy) {
      if (group == "networking.k8s.io" || group == "extensions") return known;
    } else if (group == "cilium.io") {
      return known;
    }
  }
  return std::nullopt;
}

bool is_cidr(std::string_view text) {
  return ir::parse_prefix(text).has_value();
}

std::string cidr_hint(std::string_view text) {
  const auto ip = ir::parse_ip(text);
  return ip ? fmt::format("write `{}/{}` for one address", text, ip->bits())
            : "write address/length, such as `10.0.0.0/8`";
}

SelectorAst read_selector(Findings& findings, const Cursor& at, bool schema) {
  Fields fields(findings, at);
  SelectorAst out;
  out.range = at.range();
  StringRule value;
  if (schema) {
    value = {
        {}, 63, is_label_value, "a label value (letters, digits, `-`, `_`, `.`)", label_value_hint};
  }
  out.match_labels = fields.text_map("matchLabels", value);
  const auto expression = [&](const Cursor& item) {
    Fields f(findings, item);
    MatchExpressionAst e;
    e.range = item.range();
    e.key = f.required_text("key");
    StringRule op;
    if (schema) op.choices = {"In", "NotIn", "Exists", "DoesNotExist"};
    e.op = f.required_text("operator", op);
    e.values = f.text_list("values").value_or(std::vector<Text>{});
    f.finish();
    return e;
  };
  if (auto list = fields.each("matchExpressions", expression)) {
    out.match_expressions = std::move(*list);
  }
  const bool empty = out.match_labels.empty() && out.match_expressions.empty();
  fields.finish({}, [&]() -> std::string {
    if (empty) {
      return "the API server drops the field; the selector is left as `{}` and selects everything "
             "in its scope (fails open)";
    }
    return "the API server drops the field; the selector keeps its other requirements and selects "
           "more (fails open)";
  });
  return out;
}

namespace {

// apiVersion, kind, metadata: the same for all kinds.
void read_head(Fields& object, PolicyAst& policy, const ir::Settings& settings,
               Findings& findings) {
  object.know("status");
  if (auto kind = object.field("kind")) policy.kind_range = kind->range();
  auto at = object.field("metadata");
  bool generated = false;
  if (at) {
    Fields metadata(findings, *at);
    for (std::string_view key :
         {"uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
          "deletionGracePeriodSeconds", "ownerReferences", "finalizers", "managedFields",
          "selfLink", "clusterName"}) {
      metadata.know(key);
    }
    generated = metadata.text("generateName").has_value();
    if (auto name = metadata.text("name")) policy.name = *name;
    policy.ns = metadata.text("namespace");
    if (policy.ns && policy.ns->empty()) policy.ns.reset();
    policy.labels = metadata.text_map("labels");
    metadata.text_map("annotations");
    metadata.finish({}, nullptr, Fields::Unknown::Foreign);
  }
  if (auto version = object.text("apiVersion")) {
    const bool group_kind = policy.kind == PolicyKind::CiliumCidrGroup;
    const std::string want =
        policy.kind == PolicyKind::NetworkPolicy ? "networking.k8s.io/v1" : "cilium.io/v2";
    const bool good =
        version->text == want || (group_kind && version->text == "cilium.io/v2alpha1");
    if (!good && !version->unknown) {
      findings
          .refuse_schema(
              DiagCode::WrongApiVersion, version->range, "apiVersion",
              fmt::format("`{}` has no kind `{}`", version->text, policy_kind_name(policy.kind)))
          .help = fmt::format("write `apiVersion: {}`", want);
    }
  }
  const bool cluster_wide = policy.kind == PolicyKind::CiliumClusterwideNetworkPolicy ||
                            policy.kind == PolicyKind::CiliumCidrGroup;
  if (cluster_wide && policy.ns) {
    findings
        .warn(DiagCode::NamespaceIgnored, policy.ns->range, "metadata.namespace",
              fmt::format("`{}` is not namespaced; the namespace `{}` is ignored",
                          policy_kind_name(policy.kind), policy.ns->text))
        .help = "take the namespace away, or select it with `k8s:io.kubernetes.pod.namespace`";
  }
  if (policy.name.empty() && !generated) {
    findings
        .refuse_agent(DiagCode::MissingName, at ? at->range() : policy.kind_range, "metadata",
                      "the object has no name")
        .help = "write `metadata: {name: …}`";
  } else if (!policy.name.empty() && !policy.name.unknown && !is_subdomain(policy.name.text)) {
    const std::string message = fmt::format(
        "`{}` is no object name: lower-case letters, digits, `-` and `.` only", policy.name.text);
    if (settings.assume_admitted) {
      findings.warn(DiagCode::InvalidName, policy.name.range, "metadata.name", message).severity =
          Severity::Warning;
    } else {
      findings.refuse(Layer::ApiServer, DiagCode::InvalidName, policy.name.range, "metadata.name",
                      message);
    }
  }
}

}  // namespace

void read_cidr_group(Fields& object, PolicyAst& policy, Findings& findings) {
  policy.cidr_group = CidrGroupAst{};
  auto at = object.field("spec");
  if (!at) {
    findings.refuse_schema(DiagCode::MissingField, object.range(), "", "`spec` is missing");
    return;
  }
  Fields spec(findings, *at);
  auto cidrs = spec.text_list("externalCIDRs", {{}, 0, is_cidr, "a CIDR", cidr_hint});
  if (cidrs) {
    policy.cidr_group->cidrs = std::move(*cidrs);
  } else if (spec.is_mapping()) {
    findings.refuse_schema(DiagCode::MissingField, at->range(), "spec",
                           "`externalCIDRs` is missing");
  }
  spec.finish();
}

PolicyAst read_policy(const YamlRef& object, PolicyKind kind, FileId file, std::uint32_t document,
                      const ir::Settings& settings, DiagnosticSink& sink) {
  PolicyAst policy;
  policy.kind = kind;
  policy.file = file;
  policy.document = document;
  policy.range = object.at;
  Findings findings(policy, sink);
  Fields fields(findings, Cursor{object, ""});
  read_head(fields, policy, settings, findings);
  switch (kind) {
    case PolicyKind::CiliumNetworkPolicy:
    case PolicyKind::CiliumClusterwideNetworkPolicy:
      read_cilium(fields, policy, settings, findings);
      break;
    case PolicyKind::NetworkPolicy:
      read_netpol(fields, policy, settings, findings);
      break;
    case PolicyKind::CiliumCidrGroup:
      read_cidr_group(fields, policy, findings);
      break;
  }
  // A `description` beside `spec` is refused (Cilium's own check); other foreign fields are not.
  const YamlEntry* description = object.node->find("description");
  const bool cilium =
      kind == PolicyKind::CiliumNetworkPolicy || kind == PolicyKind::CiliumClusterwideNetworkPolicy;
  if (cilium && description != nullptr) {
    fields.know("description");
    Diagnostic& d =
        findings.refuse(Layer::UnknownField, DiagCode::UnknownField, description->key_range, "",
                        "unknown field `description` beside `spec`");
    d.help = "move it into `spec`";
  }
  fields.finish({}, nullptr, Fields::Unknown::Foreign);
  switch (kind) {
    case PolicyKind::CiliumNetworkPolicy:
    case PolicyKind::CiliumClusterwideNetworkPolicy:
      validate_cilium(policy, settings, findings);
      break;
    case PolicyKind::NetworkPolicy:
      validate_netpol(policy, settings, findings);
      break;
    case PolicyKind::CiliumCidrGroup:
      break;
  }
  return policy;
}

}  // namespace policyc::frontend
