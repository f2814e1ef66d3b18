//! Plans as EXPLAIN prints them: <https://www.postgresql.org/docs/current/using-explain.html>.

use std::fmt::Write;

/// A plan: its nodes in the order of the text, the first one on top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) nodes: Vec<Node>,
    /// Whether it is compiled just in time.
    pub(super) jit: bool,
    /// What the execution took, if it was executed.
    pub(super) execution_ms: Option<String>,
}

/// A node of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) parent: Option<usize>,
    /// How deep it stands.
    depth: usize,
    /// The subplan that begins with it, such as `CTE gone`; `None` for an input of its parent.
    pub(super) subplan: Option<String>,
    /// What it does, such as `Index Scan`, without direction and table.
    pub(super) kind: String,
    pub(super) index: Option<String>,
    /// The table, function or subplan that it reads, or the table that it writes.
    pub(super) relation: Option<String>,
    /// Its lines, such as `Index Cond: (id = $1)`.
    pub(super) properties: Vec<String>,
    /// How often it was executed.
    loops: u64,
}

impl Node {
    /// The value of a property.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// How many rows it has read for nothing, in all of its executions.
    pub(super) fn discarded(&self) -> u64 {
        let rows = self.properties.iter().filter(|line| line.starts_with("Rows Removed by "));
        rows.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>() * self.loops
    }

    fn buffers(&self) -> u64 {
        let shared = self.property("Buffers").and_then(|buffers| buffers.strip_prefix("shared ")).unwrap_or_default();
        let counts = shared.split(", ").next().unwrap_or_default().split(' ');
        let looked_at = counts.filter_map(|count| count.strip_prefix("hit=").or(count.strip_prefix("read=")));
        looked_at.filter_map(|count| count.parse::<u64>().ok()).sum()
    }

    /// Reads `Index Scan Backward using tickr_ready_pkey on tickr_ready r (actual rows=1 loops=1)`.
    fn read(text: &str, parent: Option<usize>, depth: usize, subplan: Option<String>) -> Self {
        let (shown, figures) = text.split_once("  (").or_else(|| text.split_once(" (")).unwrap_or((text, ""));
        let loops = figures.split("loops=").nth(1).and_then(|rest| rest.trim_end_matches(')').parse().ok()).unwrap_or(0);
        let (before, on) = shown.split_once(" on ").map_or((shown, None), |(before, on)| (before, Some(on)));
        let (kind, using) = before.split_once(" using ").map_or((before, None), |(kind, index)| (kind, Some(index)));
        let first = |words: &str| words.split(' ').next().map(str::to_owned);
        let kind = kind.trim_end_matches(" Backward").to_owned();
        let (index, relation) = match kind.as_str() {
            "Bitmap Index Scan" => (on.and_then(first), None),
            _ => (using.and_then(first), on.and_then(first)),
        };
        Self { parent, depth, subplan, kind, index, relation, properties: Vec::new(), loops }
    }
}

impl Plan {
    /// Reads a plan in the format TEXT.
    pub(super) fn parse(text: &str) -> Self {
        let mut plan = Self::default();
        // The nodes above the current line, with their columns.
        let mut above: Vec<(usize, usize)> = Vec::new();
        let mut subplan: Option<(usize, String)> = None;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let content = line.trim_start();
            let column = line.len() - content.len();
            let node = content.strip_prefix("->").map(str::trim_start);
            if plan.nodes.is_empty() || node.is_some() {
                above.retain(|(at, _)| *at < column);
                let parent = above.last().map(|(_, node)| *node);
                let begun = subplan.take_if(|(at, _)| *at < column).map(|(_, name)| name);
                above.push((column, plan.nodes.len()));
                plan.nodes.push(Node::read(node.unwrap_or(content), parent, above.len() - 1, begun));
            } else if column == 0 {
                plan.jit |= content == "JIT:";
                plan.execution_ms =
                    content.strip_prefix("Execution Time: ").map(|time| time.trim_end_matches(" ms").to_owned()).or(plan.execution_ms);
                // What is indented below belongs to no node.
                above.clear();
            } else if is_subplan(content) {
                subplan = Some((column, content.split(" (").next().unwrap_or(content).to_owned()));
            } else if let Some((_, node)) = above.last() {
                plan.nodes[*node].properties.push(content.to_owned());
            }
        }
        plan
    }

    /// The nodes above a node within its subplan, from its parent on.
    pub(super) fn above(&self, node: &Node) -> impl Iterator<Item = &Node> {
        let up = |node: &Node| if node.subplan.is_some() { None } else { node.parent.map(|parent| &self.nodes[parent]) };
        std::iter::successors(up(node), move |node| up(node))
    }

    /// What it does on what, a node a line: all that makes two plans the same.
    pub(super) fn shape(&self) -> String {
        let mut shape = String::new();
        for node in self.nodes.iter().filter(|node| !self.is_shown_late(node)) {
            let _ = write!(shape, "{:1$}", "", node.depth * 2);
            for (before, word) in
                [("", &node.subplan), (": ", &Some(node.kind.clone())), (" using ", &node.index), (" on ", &node.relation)]
            {
                if let Some(word) = word {
                    let before = if before == ": " && node.subplan.is_none() { "" } else { before };
                    let _ = write!(shape, "{before}{word}");
                }
            }
            shape.push('\n');
        }
        shape
    }

    /// What a work table computes is only shown once it was executed.
    fn is_shown_late(&self, node: &Node) -> bool {
        let mut up = std::iter::successors(node.parent, |parent| self.nodes[*parent].parent);
        up.any(|parent| self.nodes[parent].kind == "WorkTable Scan")
    }

    /// Pages of the shared buffers that the execution looked at. What a WITH query writes for nobody to read comes after the rest,
    /// and is not counted above it.
    pub(super) fn buffers(&self) -> u64 {
        let is_read = |subplan: &str| {
            let name = subplan.strip_prefix("CTE ").unwrap_or_default();
            self.nodes.iter().any(|node| node.kind == "CTE Scan" && node.relation.as_deref() == Some(name))
        };
        let is_last = |node: &Node| node.subplan.as_deref().is_some_and(|subplan| subplan.starts_with("CTE ") && !is_read(subplan));
        let counted = self.nodes.iter().enumerate().filter(|(at, node)| *at == 0 || is_last(node));
        counted.map(|(_, node)| node.buffers()).sum()
    }
}

fn is_subplan(line: &str) -> bool {
    let mut words = line.split(' ');
    matches!(words.next(), Some("CTE" | "InitPlan" | "SubPlan")) && words.next().is_some_and(|name| !name.ends_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "\
Nested Loop Left Join (actual rows=1 loops=1)
  Buffers: shared hit=5 read=2 dirtied=1, local hit=9
  CTE gone
    ->  Delete on tickr_ready (actual rows=1 loops=1)
          InitPlan 1 (returns $2)
            ->  Limit (never executed)
                  ->  Index Scan Backward using tickr_ready_pkey on tickr_ready r (actual rows=3 loops=2)
                        Index Cond: (seq > 1)
                        Filter: (lane = 4)
                        Rows Removed by Filter: 7
                        Rows Removed by Index Recheck: 1
          ->  Tid Scan on tickr_ready (actual rows=1 loops=1)
                TID Cond: (ctid = ANY ($2))
  ->  CTE Scan on gone (actual rows=1 loops=1)
  ->  Index Only Scan using tickr_messages_pkey on tickr_messages (actual rows=1 loops=1)
        Index Cond: (id = gone.id)
Planning:
  Buffers: shared hit=100
Planning Time: 0.100 ms
JIT:
  Functions: 3
Execution Time: 0.345 ms
";

    #[test]
    fn the_shape_is_what_does_what_on_what() {
        let shape = "\
Nested Loop Left Join
  CTE gone: Delete on tickr_ready
    InitPlan 1: Limit
      Index Scan using tickr_ready_pkey on tickr_ready
    Tid Scan on tickr_ready
  CTE Scan on gone
  Index Only Scan using tickr_messages_pkey on tickr_messages
";
        assert_eq!(Plan::parse(PLAN).shape(), shape);
    }

    #[test]
    fn a_plan_that_was_not_executed_has_the_same_shape() {
        let plain: String = PLAN.lines().map(|line| line.split(" (actual").next().unwrap().to_owned() + "\n").collect();
        assert_eq!(Plan::parse(&plain).shape(), Plan::parse(PLAN).shape());
    }

    #[test]
    fn properties_stay_with_their_node() {
        let plan = Plan::parse(PLAN);
        assert_eq!(plan.nodes[3].property("Index Cond"), Some("(seq > 1)"));
        assert_eq!(plan.nodes[3].discarded(), 16);
        assert_eq!(plan.nodes[6].property("Index Cond"), Some("(id = gone.id)"));
        assert_eq!(plan.nodes[0].property("Index Cond"), None);
    }

    #[test]
    fn figures_are_those_of_the_execution() {
        let plan = Plan::parse(PLAN);
        assert_eq!((plan.buffers(), plan.execution_ms.as_deref(), plan.jit), (7, Some("0.345"), true));
        let written = "Result\n  Buffers: shared hit=1\n  CTE log\n    ->  Insert on tickr_settlements\n          Buffers: shared hit=4\n";
        assert_eq!(Plan::parse(written).buffers(), 5);
        let plain = Plan::parse("Result\n");
        assert_eq!((plain.buffers(), plain.execution_ms, plain.jit), (0, None, false));
    }

    #[test]
    fn what_a_work_table_computes_is_no_part_of_the_shape() {
        let executed = "Recursive Union\n  ->  WorkTable Scan on t\n        SubPlan 1\n          ->  Limit\n";
        assert_eq!(Plan::parse(executed).shape(), Plan::parse("Recursive Union\n  ->  WorkTable Scan on t\n").shape());
    }

    #[test]
    fn nodes_above_end_with_the_subplan() {
        let plan = Plan::parse(PLAN);
        let above: Vec<&str> = plan.above(&plan.nodes[3]).map(|node| node.kind.as_str()).collect();
        assert_eq!(above, ["Limit"]);
        assert_eq!(plan.above(&plan.nodes[4]).count(), 1);
    }
}
