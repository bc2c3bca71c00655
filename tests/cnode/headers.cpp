/* SPDX-License-Identifier: Apache-2.0 */
/* The public headers in C++: built and run by install_SUITE against what is installed. */
#include <barrel_p2p/barrel_p2p.h>
#include <barrel_p2p/ei.h>

#include <cstdio>
#include <string>

namespace
{

class Node
{
  public:
    explicit Node(const std::string &name)
    {
        if (bp_node_new(&node_, name.c_str()) != 0) {
            node_ = nullptr;
        }
    }
    ~Node()
    {
        bp_node_del(node_);
    }
    Node(const Node &) = delete;
    Node &operator=(const Node &) = delete;
    bp_node *get() const
    {
        return node_;
    }

  private:
    bp_node *node_ = nullptr;
};

int lookup(void *, uint64_t, const char *, const char *)
{
    return BP_ERROR_NOT_FOUND;
}

} // namespace

int main()
{
    Node node("cpp@localhost");
    bp_backend_ops ops = {};
    bp_event event;
    ei_cnode ec;

    ops.name = "mine";
    ops.lookup = lookup;
    if (node.get() == nullptr || bp_node_set_text(node.get(), BP_OPT_COOKIE, "secret") != 0 ||
        bp_node_discover_with(node.get(), &ops, nullptr) != 0 || bp_node_start(node.get()) != 0 ||
        bp_ei_init(&ec, node.get(), 0) != 0 || bp_node_next(node.get(), &event) != BP_ERROR_AGAIN) {
        std::printf("failed: %s\n", bp_error_detail());
        return 1;
    }
    std::printf("%s %s\n", bp_version(), ei_thisnodename(&ec));
    return 0;
}
