"""Programs from fused graphs: order, memory, loops and barriers."""
