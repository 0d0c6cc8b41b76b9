// The one user of yaml-cpp.
#include "frontend/print_ast.h"

#include <yaml-cpp/yaml.h>

#include "frontend/parse_policy.h"

namespace policyc::frontend {
namespace {

using YAML::Emitter;

class AstPrinter {
 public:
  std::string print(const Loaded& loaded) {
    for (const LoadedPolicy& policy : loaded.policies) print_policy(policy, *loaded.sources);
    return out_.size() == 0 ? std::string() : std::string(out_.c_str()) + "\n";
  }

 private:
  void key(const char* name) { out_ << YAML::Key << name << YAML::Value; }
  void text(const std::string& value) { out_ << YAML::DoubleQuoted << value; }
  void put(const char* name, const std::string& value) {
    key(name);
    text(value);
  }
  void put(const char* name, const std::optional<Text>& value) {
    if (value) put(name, value->text);
  }
  void put(const char* name, const std::optional<std::int64_t>& value) {
    if (!value) return;
    key(name);
    out_ << *value;
  }
  void put(const char* name, const std::optional<bool>& value) {
    if (!value) return;
    key(name);
    out_ << *value;
  }

  // A list under a key; an absent one prints nothing, an empty one `[]`.
  template <class T, class F>
  void list(const char* name, const std::vector<T>& items, F&& print_item) {
    key(name);
    if (items.empty()) out_ << YAML::Flow;
    out_ << YAML::BeginSeq;
    for (const T& item : items) print_item(item);
    out_ << YAML::EndSeq;
  }
  template <class T, class F>
  void list(const char* name, const OptList<T>& items, F&& print_item) {
    if (items) list(name, *items, print_item);
  }
  void texts(const char* name, const List<Text>& items) {
    list(name, items, [&](const Text& t) { text(t.text); });
  }
  void texts(const char* name, const OptList<Text>& items) {
    if (items) texts(name, *items);
  }

  template <class F>
  void map(F&& print_entries) {
    out_ << YAML::BeginMap;
    print_entries();
    out_ << YAML::EndMap;
  }

  void pairs(const List<std::pair<Text, Text>>& items) {
    map([&] {
      for (const auto& [k, v] : items) {
        out_ << YAML::Key << k.text << YAML::Value;
        text(v.text);
      }
    });
  }

  void selector(const SelectorAst& s) {
    map([&] {
      if (!s.match_labels.empty()) {
        key("matchLabels");
        pairs(s.match_labels);
      }
      if (s.match_expressions.empty()) return;
      list("matchExpressions", s.match_expressions, [&](const MatchExpressionAst& e) {
        map([&] {
          put("key", e.key.text);
          put("operator", e.op.text);
          if (!e.values.empty()) texts("values", e.values);
        });
      });
    });
  }
  void put(const char* name, const std::optional<SelectorAst>& s) {
    if (!s) return;
    key(name);
    selector(*s);
  }
  void selectors(const std::string& name, const OptList<SelectorAst>& items) {
    list(name.c_str(), items, [&](const SelectorAst& s) { selector(s); });
  }

  void port(const PortAst& p) {
    map([&] {
      put("port", p.port);
      put("endPort", p.end_port);
      put("protocol", p.protocol);
    });
  }

  void fqdn(const FqdnAst& f) {
    map([&] {
      put("matchName", f.match_name);
      put("matchPattern", f.match_pattern);
    });
  }

  void http(const HttpAst& h) {
    map([&] {
      put("method", h.method);
      put("path", h.path);
      put("host", h.host);
      if (!h.headers.empty()) texts("headers", h.headers);
      if (h.header_matches.empty()) return;
      list("headerMatches", h.header_matches, [&](const HeaderMatchAst& m) {
        map([&] {
          put("name", m.name.text);
          put("value", m.value);
          put("mismatch", m.mismatch);
          if (!m.secret_name && !m.secret_namespace) return;
          key("secret");
          map([&] {
            put("name", m.secret_name);
            put("namespace", m.secret_namespace);
          });
        });
      });
    });
  }

  void kafka(const KafkaAst& k) {
    map([&] {
      put("role", k.role);
      put("apiKey", k.api_key);
      put("apiVersion", k.api_version);
      put("clientID", k.client_id);
      put("topic", k.topic);
    });
  }

  void tls(const char* name, const std::optional<TlsAst>& t) {
    if (!t) return;
    key(name);
    map([&] {
      key("secret");
      map([&] {
        put("name", t->secret_name.text);
        put("namespace", t->secret_namespace);
      });
    });
  }

  void listener(const ListenerAst& l) {
    key("listener");
    map([&] {
      key("envoyConfig");
      map([&] {
        put("kind", l.envoy_kind);
        put("name", l.envoy_name.text);
      });
      put("name", l.name.text);
      put("priority", l.priority);
    });
  }

  void port_rule(const PortRuleAst& p) {
    map([&] {
      list("ports", p.ports, [&](const PortAst& x) { port(x); });
      tls("terminatingTLS", p.terminating_tls);
      tls("originatingTLS", p.originating_tls);
      texts("serverNames", p.server_names);
      if (p.listener) listener(*p.listener);
      if (!p.rules) return;
      key("rules");
      map([&] {
        list("http", p.rules->http, [&](const HttpAst& x) { http(x); });
        list("kafka", p.rules->kafka, [&](const KafkaAst& x) { kafka(x); });
        list("dns", p.rules->dns, [&](const FqdnAst& x) { fqdn(x); });
        put("l7proto", p.rules->l7proto);
        list("l7", p.rules->l7, [&](const List<std::pair<Text, Text>>& x) { pairs(x); });
      });
    });
  }

  void cidr_set(const CidrSetAst& c) {
    map([&] {
      put("cidr", c.cidr);
      put("cidrGroupRef", c.group_ref);
      put("cidrGroupSelector", c.group_selector);
      if (!c.except.empty()) texts("except", c.except);
    });
  }

  void service(const ServiceAst& s) {
    map([&] {
      key(s.selector ? "k8sServiceSelector" : "k8sService");
      map([&] {
        put("serviceName", s.name);
        put("selector", s.selector);
        put("namespace", s.ns);
      });
    });
  }

  void item(const RuleItemAst& i, bool egress) {
    const std::string way = egress ? "to" : "from";
    map([&] {
      selectors(way + "Endpoints", i.endpoints);
      selectors(way + "Requires", i.requires_);
      texts((way + "CIDR").c_str(), i.cidr);
      list((way + "CIDRSet").c_str(), i.cidr_set, [&](const CidrSetAst& c) { cidr_set(c); });
      texts((way + "Entities").c_str(), i.entities);
      selectors(way + "Nodes", i.nodes);
      if (i.groups) put((way + "Groups").c_str(), std::string("(not expanded)"));
      list("toFQDNs", i.fqdns, [&](const FqdnAst& f) { fqdn(f); });
      list("toServices", i.services, [&](const ServiceAst& s) { service(s); });
      list("toPorts", i.ports, [&](const PortRuleAst& p) { port_rule(p); });
      list("icmps", i.icmps, [&](const IcmpAst& icmp) {
        map([&] {
          list("fields", icmp.fields, [&](const IcmpFieldAst& f) {
            map([&] {
              put("family", f.family);
              put("type", f.type.text);
            });
          });
        });
      });
      if (!i.authentication) return;
      key("authentication");
      map([&] { put("mode", i.authentication); });
    });
  }

  void rule(const RuleAst& r) {
    map([&] {
      put("description", r.description);
      put("endpointSelector", r.endpoint_selector);
      put("nodeSelector", r.node_selector);
      if (r.default_deny_ingress || r.default_deny_egress) {
        key("enableDefaultDeny");
        map([&] {
          put("ingress", r.default_deny_ingress);
          put("egress", r.default_deny_egress);
        });
      }
      auto in = [&](const RuleItemAst& i) { item(i, false); };
      auto out = [&](const RuleItemAst& i) { item(i, true); };
      list("ingress", r.ingress, in);
      list("ingressDeny", r.ingress_deny, in);
      list("egress", r.egress, out);
      list("egressDeny", r.egress_deny, out);
    });
  }

  void netpol_rule(const NetpolRuleAst& r, const char* way) {
    map([&] {
      list(way, r.peers, [&](const NetpolPeerAst& p) {
        map([&] {
          put("podSelector", p.pod_selector);
          put("namespaceSelector", p.namespace_selector);
          if (!p.ip_block) return;
          key("ipBlock");
          map([&] {
            put("cidr", p.ip_block->cidr.text);
            if (!p.ip_block->except.empty()) texts("except", p.ip_block->except);
          });
        });
      });
      list("ports", r.ports, [&](const PortAst& p) { port(p); });
    });
  }

  void netpol(const NetpolSpecAst& n) {
    key("spec");
    map([&] {
      key("podSelector");
      selector(n.pod_selector);
      texts("policyTypes", n.policy_types);
      list("ingress", n.ingress, [&](const NetpolRuleAst& r) { netpol_rule(r, "from"); });
      list("egress", n.egress, [&](const NetpolRuleAst& r) { netpol_rule(r, "to"); });
    });
  }

  void print_policy(const LoadedPolicy& policy, const SourceMap& sources) {
    const PolicyAst& ast = policy.ast;
    out_ << YAML::BeginDoc;
    map([&] {
      put("kind", policy_kind_name(ast.kind));
      if (!policy.ns.empty()) put("namespace", policy.ns);
      put("name", ast.name.text);
      put("place", sources.place(ast.range));
      if (!policy.set.empty()) put("set", policy.set);
      key("accepted");
      out_ << ast.accepted;
      if (!ast.accepted) {
        put("layer", std::string(layer_name(ast.layer)));
        put("error", ast.error);
      }
      if (!ast.rules.empty()) list("rules", ast.rules, [&](const RuleAst& r) { rule(r); });
      if (ast.netpol) netpol(*ast.netpol);
      if (ast.cidr_group) texts("externalCIDRs", ast.cidr_group->cidrs);
    });
  }

  Emitter out_;
};

}  // namespace

std::string print_ast(const Loaded& loaded) {
  return AstPrinter().print(loaded);
}

}  // namespace policyc::frontend
