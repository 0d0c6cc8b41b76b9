// A table of policies and verdicts: ingress of pod b in namespace red, for a (a pod in red), c (a
// pod in another namespace), w (an address outside) and h (the local host). The expected marks are
// the specification's, not ours.
#include <gtest/gtest.h>

#include "tests/semantics/world_text.h"

namespace policyc {
namespace {

using testing::kPods;
using testing::TextWorld;
using testing::world_of;

struct Row {
  const char* name;
  const char* kind;   // CNP, CCNP, KNP, or empty for no policy
  const char* spec;   // flow style, without the subject
  const char* marks;  // a:80, a ICMP, c:80, w:80, h:80; '+' allowed, '-' denied
};

const Row kRows[] = {
    {"no policy", "", "", "+++++"},
    {"empty ingress", "CNP", "ingress: []", "+++++"},
    {"empty item", "CNP", "ingress: [{}]", "----+"},
    {"NetworkPolicy empty item", "KNP", "ingress: [{}]", "+++++"},
    {"own namespace", "CNP", "ingress: [{fromEndpoints: [{}]}]", "++--+"},
    {"every namespace", "CCNP", "ingress: [{fromEndpoints: [{}]}]", "+++-+"},
    {"ports only", "CNP", "ingress: [{toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]}]",
     "+-+++"},
    {"nobody on a port", "CNP",
     "ingress: [{fromEndpoints: [], toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]}]",
     "----+"},
    {"negative namespace", "CNP",
     "ingress: [{fromEndpoints: [{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: "
     "NotIn, values: [blue]}]}]}]",
     "++-++"},
    {"cluster", "CNP", "ingress: [{fromEntities: [cluster]}]", "+++-+"},
    {"deny host on a port", "CNP",
     "ingress: [{fromEntities: [all]}], ingressDeny: [{fromEntities: [host], toPorts: [{ports: "
     "[{port: \"80\", protocol: TCP}]}]}]",
     "++++-"},
    {"deny world only", "CNP", "ingressDeny: [{fromEntities: [world]}]", "----+"},
    {"deny world, no default deny", "CNP",
     "ingressDeny: [{fromEntities: [world]}], enableDefaultDeny: {ingress: false}", "+++-+"},
    {"everything by address", "KNP", "ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]", "---++"},
};

std::string policy_text(const Row& row) {
  const std::string kind = row.kind;
  if (kind == "KNP") {
    return std::string(
               "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, "
               "namespace: red}\nspec: {podSelector: {matchLabels: {app: b}}, ") +
           row.spec + "}\n";
  }
  if (kind == "CCNP") {
    return std::string(
               "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: "
               "{name: p}\nspec: {endpointSelector: {matchLabels: {app: b}}, ") +
           row.spec + "}\n";
  }
  if (kind == "CNP") {
    return std::string(
               "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, "
               "namespace: red}\nspec: {endpointSelector: {matchLabels: {app: b}}, ") +
           row.spec + "}\n";
  }
  return "";
}

class Table : public ::testing::TestWithParam<Row> {};

TEST_P(Table, MeansWhatTheSpecificationSays) {
  const Row& row = GetParam();
  const auto w = world_of(kPods + policy_text(row));
  for (const Diagnostic& d : w->sink.all()) {
    EXPECT_NE(d.severity, Severity::Error) << d.message;
  }
  const ir::Party b = w->pod("red/b");
  const auto mark = [](const std::string& verdict) { return verdict == "allow" ? '+' : '-'; };
  std::string got;
  got += mark(w->verdict(w->pod("red/a"), b, ir::kProtoTcp, 80));
  got += mark(w->verdict(w->pod("red/a"), b, ir::kProtoIcmp, 8));
  got += mark(w->verdict(w->pod("blue/c"), b, ir::kProtoTcp, 80));
  got += mark(w->verdict(TextWorld::ip("203.0.113.7"), b, ir::kProtoTcp, 80));
  got += mark(w->verdict(TextWorld::entity("host"), b, ir::kProtoTcp, 80));
  EXPECT_EQ(got, row.marks);
}

INSTANTIATE_TEST_SUITE_P(Section14, Table, ::testing::ValuesIn(kRows), [](const auto& param) {
  std::string name = param.param.name;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
});

}  // namespace
}  // namespace policyc
