"""Constants whose numbers are alike everywhere: a recurrent layer's first state is one for all layers and directions.

Permuting what is alike changes nothing, so such a tensor must not couple the units of all that it meets.
"""

from torch.fx import Graph, Node

from onebasin.symmetry.tracing.graph import name_of

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
        name, inputs = name_of(node), node.all_input_nodes
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable and not found.isdisjoint(inputs):
            return set()
        if name in MAKING or (name in VIEWING and inputs and found.issuperset(inputs)):
            found.add(node)
    return found
