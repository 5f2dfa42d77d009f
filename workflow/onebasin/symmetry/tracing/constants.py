"""Constants whose numbers are alike everywhere: a recurrent layer's first state is one for all layers and directions.

Permuting what is alike changes nothing, so such a tensor must not couple the units of all that it meets.
"""

from torch.fx import Graph, Node

MAKING = {"full", "full_like", "new_full", "new_ones", "new_zeros", "ones", "ones_like", "zeros", "zeros_like"}
VIEWING = {
    *("_to_copy", "alias", "chunk", "clone", "contiguous", "detach", "expand", "flatten", "getitem", "permute"),
    *("repeat", "reshape", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "to", "transpose"),
    *("unbind", "unsqueeze", "unsafe_split", "view"),
}


def alike_everywhere(graph: Graph) -> set[Node]:
    """The nodes that return constants whose numbers are all equal, and parts of these. None, if one is written into."""
    found: set[Node] = set()
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        name, inputs = _name(node), node.all_input_nodes
        if name.endswith("_") and not name.endswith("__") and inputs and inputs[0] in found:
            return set()
        made = name in MAKING and "val" in node.meta
        if made or (name in VIEWING and inputs and all(given in found for given in inputs)):
            found.add(node)
    return found


def _name(node: Node) -> str:
    target = node.target
    if hasattr(target, "name"):
        return str(target.name()).removeprefix("aten::").partition(".")[0]
    return str(getattr(target, "__name__", target))
