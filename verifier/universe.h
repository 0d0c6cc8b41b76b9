// The open world as a flow space: every pod that could exist, every node, entity and address that
// policies tell apart. Label sets are free over the keys and values that selectors mention, plus
// "something else"; what Kubernetes and Cilium force is built in (one namespace, one cluster,
// labels that identities never carry, who has no labels at all).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/evaluate.h"
#include "verifier/flow_space.h"

namespace policyc {

class Universe {
 public:
  // Values are those that the policies of the world mention; nodes, prefix groups and the API
  // server's addresses are taken from the inventory, pods are not.
  explicit Universe(const ir::World& world);

  const FlowSpace& space() const { return space_; }
  // Whether policies tell clusters apart, and pods of others were taken not to be there.
  bool of_this_cluster_only() const;
  // Boxes are disjoint, and hold every L4 key. Empty: nobody.
  std::vector<Box> subjects(const ir::Rule& rule) const;
  const std::vector<Box>& peers(const ir::Selector& selector, bool of_node_labels) const;
  // Half-open intervals of keys; a port name has a key of its own beyond the numbers.
  std::vector<std::pair<ir::L4Key, ir::L4Key>> keys(const ir::Port& port) const;
  std::pair<ir::L4Key, ir::L4Key> all_keys() const { return {0, space_.l4_end}; }

  std::uint32_t peer_dimension() const { return peer_kind_; }
  const PointSet& host() const { return host_; }  // the local host, of peer_dimension()

  // A point as a small world of its own: two pods (or a pod and somebody else) that are exactly
  // what the point says, and the flow between them. nullopt where it has no such form: port names,
  // pods of other clusters, values that placeholders leave open.
  struct Scene {
    ir::Inventory inventory;
    ir::Flow flow;
  };
  std::optional<Scene> scene(const FlowPoint& point, ir::Direction direction) const;
  // The pod of the point that is judged, or its peer; nullopt where that end is no pod or its
  // labels have no such form. The namespace's labels are added to the inventory.
  std::optional<ir::Pod> subject_pod(const FlowPoint& point, ir::Inventory& inventory) const;
  std::optional<ir::Pod> peer_pod(const FlowPoint& point, ir::Inventory& inventory) const;
  // The inventory without its pods, in which every name resolves or does not.
  ir::Inventory empty_inventory() const;
  // Gives each name an address in each block that the policies tell apart; where nobody told where
  // the API server is, it gets one in each block, too, and a node of its own. False where that
  // would be too many.
  // Blocks of a single address are left alone unless `single`.
  bool spread_addresses(const ir::PolicySet& policies, ir::Inventory& inventory, bool single) const;
  // A node for each label set that a local host can have.
  std::vector<std::string> hosts(const ir::PolicySet& policies,
                                 const ir::Inventory& inventory) const;

 private:
  // The values of one label key: absent (where that can be), those mentioned, something else.
  struct Key {
    std::string name;
    bool absent = true, other = true;
    std::vector<std::string> values;  // sorted
    std::uint32_t dimension = 0;

    std::size_t size() const { return values.size() + (absent ? 1 : 0) + (other ? 1 : 0); }
    PointSet points(const ir::Requirement& r) const;
    std::optional<std::string> value(std::uint32_t point) const;  // nullopt = absent
  };
  using Keys = std::map<std::string, Key>;
  struct Point {  // somebody who is no pod
    ir::LabelSet labels;
    std::optional<ir::Party> party;
    bool outside = false, bare_world = false, node = false;
  };

  void collect(const ir::PolicySet& policies);
  void mention(const ir::Requirement& r, Keys& keys) const;
  void mention_symbol(const ir::Requirement& r, std::map<std::string, std::uint32_t>& symbols,
                      const char* who);
  std::vector<Box> boxes(const ir::Selector& selector, bool of_node_labels) const;
  bool narrow_pod(Box& box, const ir::Requirement& r, const Keys& keys,
                  const std::map<std::string, std::uint32_t>& symbols) const;
  std::optional<ir::Pod> pod(const FlowPoint& point, const Keys& keys, const std::string& name,
                             ir::Inventory& inventory) const;

  const ir::World& world_;
  FlowSpace space_;
  std::uint32_t subject_kind_ = 0, peer_kind_ = 0;
  Keys subject_keys_, peer_keys_, node_keys_;
  std::map<std::string, std::uint32_t> subject_symbols_, peer_symbols_;
  std::map<std::string, std::uint32_t> names_;  // toFQDNs text → dimension
  std::map<std::string, std::uint32_t> node_selectors_;
  std::vector<Point> points_;  // peer kind 1 …
  PointSet host_;
  std::map<std::pair<ir::Protocol, std::string>, ir::L4Key> port_names_;
  mutable std::map<std::string, std::vector<Box>> peer_cache_;
};

}  // namespace policyc
