"""What a statement does with columns, by the server's own analysis: the second opinion of `tests/usability`.

Owns: the reading of the tree that the server prints at Parse with debug_print_rewritten (src/backend/nodes/outfuncs.c), and the
places at which columns of base relations stand in it. Views are expanded there. May not: look at the gateway. Fails
loudly: a node of a kind that is not known here is an error, and the statement counts as not analysed.

    output   the column itself leaves: a bare entry of the outermost target list, also through sub-selects, WITH and views
    stored   the column itself is written to a column
    used     anywhere else: predicate, join, order, grouping, expression, whole row, set operation
"""

from __future__ import annotations

import re

import psycopg

TOKEN = re.compile(r"\{|\}|\(|\)|\[[^\]]*\]|(?:\\.|[^\s{}()\[\]\\])+")
# Kinds of range table entries (src/include/nodes/parsenodes.h).
RELATION, SUBQUERY, JOIN, FUNCTION, TABLEFUNC, VALUES, CTE, TUPLESTORE, RESULT, GROUP = (str(number) for number in range(10))


class Unread(Exception):
    """The tree has something that this reader does not know."""


def parsed(text: str):
    """Nodes as dictionaries (`T` is the tag), lists as lists, anything else as text."""
    tokens, at = TOKEN.findall(text), 0

    def value():
        nonlocal at
        token = tokens[at]
        at += 1
        if token == "{":
            node, key = {"T": tokens[at]}, None
            at += 1
            while tokens[at] != "}":
                word = tokens[at]
                if word.startswith(":") and len(word) > 1:
                    at += 1
                    key = word[1:]
                    node[key] = []
                else:
                    node[key].append(value())
            at += 1
            return {name: parts if name == "T" else parts[0] if len(parts) == 1 else parts for name, parts in node.items()}
        if token == "(":
            items = []
            while tokens[at] != ")":
                items.append(value())
            at += 1
            return items
        return token

    return value()


def items(part) -> list:
    """A list, where `<>` is the empty one."""
    return part if isinstance(part, list) else [] if part in ("<>", None) else [part]


class Places:
    """(relation, attribute) → places, of one statement. Attribute 0 is the whole row."""

    def __init__(self):
        self.found: dict[tuple[int, int], set[str]] = {}
        self.relations: set[int] = set()
        self.functions: set[int] = set()
        self.written: set[int] = set()
        # ON CONFLICT that names no columns: any unique index of what is written decides.
        self.any_conflict = False
        self._busy: list[int] = []

    def statement(self, query):
        """The outermost query."""
        self._query(query, [], lambda _at: "output")

    def _query(self, query, above, place_of):
        """`place_of` says what becomes of each output."""
        stack = [*above, query]
        for entry in items(query["rtable"]):
            if entry["rtekind"] == RELATION:
                self.relations.add(int(entry["relid"]))
            elif entry["rtekind"] == SUBQUERY:
                self._query(entry["subquery"], stack, lambda _at: None)
            elif entry["rtekind"] not in (JOIN, CTE, RESULT, GROUP, TUPLESTORE):
                self._used({key: part for key, part in entry.items() if key in ("functions", "tablefunc", "values_lists")}, stack)
        for cte in items(query["cteList"]):
            self._query(cte["ctequery"], stack, lambda _at: None)
        conflict = query.get("onConflict", "<>")
        self.any_conflict |= conflict != "<>" and not items(conflict.get("arbiterElems", "<>"))
        for part in ("jointree", "havingQual", "limitOffset", "limitCount", "windowClause", "onConflict", "mergeActionList"):
            self._used(query.get(part), stack)
        if query["commandType"] != "1":
            self.written.add(int(items(query["rtable"])[int(query["resultRelation"]) - 1]["relid"]))
            for target in items(query["targetList"]):
                self._entry(target, stack, "stored")
        outputs = items(query["targetList"]) if query["commandType"] == "1" else items(query["returningList"])
        whole = query["setOperations"] == "<>" and query["distinctClause"] == "<>"
        for at, target in enumerate(outputs):
            place = place_of(at)
            sorted_by = target["ressortgroupref"] != "0" and query["commandType"] == "1"
            if target["resjunk"] == "true" or sorted_by or not whole:
                place = "used" if place or target["resjunk"] == "true" or sorted_by or not whole else None
            if place:
                self._entry(target, stack, place)
        if query["setOperations"] != "<>":
            for at in range(len(outputs)):
                self._arms(query["setOperations"], query, above, at)

    def _arms(self, node, query, above, at):
        if node["T"] == "SETOPERATIONSTMT":
            self._arms(node["larg"], query, above, at)
            self._arms(node["rarg"], query, above, at)
        else:
            entry = items(query["rtable"])[int(node["rtindex"]) - 1]
            self._column(entry, at + 1, query, above, "used")

    def _entry(self, target, stack, place):
        if isinstance(target["expr"], dict) and target["expr"]["T"] == "VAR":
            self._var(target["expr"], stack, place)
        else:
            self._used(target["expr"], stack)

    def _used(self, node, stack):
        """Every column below stands in an expression."""
        if isinstance(node, list):
            for part in node:
                self._used(part, stack)
        elif isinstance(node, dict):
            if node["T"] == "VAR" if "T" in node else False:
                self._var(node, stack, "used")
            elif node.get("T") == "QUERY":
                self._query(node, stack, lambda _at: "used")
            elif node.get("T") == "SUBLINK" and node["subLinkType"] == "0":
                # EXISTS looks at no output.
                self._query(node["subselect"], stack, lambda _at: None)
            else:
                for key in ("funcid", "opfuncid", "aggfnoid", "winfnoid"):
                    if isinstance(node.get(key), str) and node[key].isdigit():
                        self.functions.add(int(node[key]))
                for key, part in node.items():
                    if key != "T":
                        self._used(part, stack)

    def _var(self, var, stack, place):
        up = int(var["varlevelsup"])
        query = stack[-1 - up]
        entry = items(query["rtable"])[int(var["varno"]) - 1]
        self._column(entry, int(var["varattno"]), query, stack[: len(stack) - 1 - up], place)

    def _column(self, entry, attribute, query, above, place):
        kind, stack = entry["rtekind"], [*above, query]
        if kind == RELATION:
            self.found.setdefault((int(entry["relid"]), attribute), set()).add(place if attribute else "used")
        elif kind == SUBQUERY:
            self._output(entry["subquery"], stack, attribute, place)
        elif kind == JOIN:
            for at, var in enumerate(items(entry["joinaliasvars"]), 1):
                if attribute in (0, at):
                    # A merged column of two sides is an expression, and was compared.
                    self._entry({"expr": var}, stack, place if attribute else "used")
        elif kind == CTE:
            up = int(entry["ctelevelsup"])
            owner = stack[-1 - up]
            for cte in items(owner["cteList"]):
                if cte["ctename"] == entry["ctename"]:
                    self._output(cte["ctequery"], stack[: len(stack) - up], attribute, place)
        elif kind == GROUP:
            for expression in items(entry["groupexprs"]):
                self._used(expression, stack)
        elif kind not in (FUNCTION, TABLEFUNC, VALUES, TUPLESTORE, RESULT):
            raise Unread(f"range table entry of kind {kind}")

    def _output(self, query, above, attribute, place):
        """The output of a sub-query is taken to `place`."""
        outputs = items(query["targetList"]) if query["commandType"] == "1" else items(query["returningList"])
        key = (id(query), attribute, place)
        if key in self._busy:
            return
        self._busy.append(key)
        bare = query["setOperations"] == "<>" and query["distinctClause"] == "<>"
        for at, target in enumerate(outputs, 1):
            if attribute in (0, at):
                sorted_by = target["ressortgroupref"] != "0" and query["commandType"] == "1"
                self._entry(target, [*above, query], place if attribute and bare and not sorted_by else "used")
                if query["setOperations"] != "<>":
                    self._arms(query["setOperations"], query, above, at - 1)
        self._busy.pop()


class Analyst:
    """A session that asks the server for trees; nothing is ever run."""

    def __init__(self, conninfo: str, search_path: str):
        self.notices: list[str] = []
        self.connection = psycopg.connect(conninfo, autocommit=True)
        self.connection.add_notice_handler(lambda notice: self.notices.append(notice.message_detail or ""))
        self.connection.execute(f"SET search_path TO {search_path}")
        self.connection.execute("SET debug_pretty_print TO off")

    def places(self, text: str) -> Places | str:
        """Of one statement; why there are none, where the server or this reader does not take it."""
        run = self.connection.execute
        run("SET client_min_messages TO log; SET debug_print_rewritten TO on")
        self.notices.clear()
        result = self.connection.pgconn.prepare(b"", text.encode())
        failed = result.error_message.decode() if result.status != 1 else ""
        trees = [notice for notice in self.notices if notice.startswith(("(", "{"))]
        if self.connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
            run("ROLLBACK")
        run("SET debug_print_rewritten TO off; SET client_min_messages TO warning")
        if failed:
            return f"the server: {failed.splitlines()[0]}"
        places = Places()
        try:
            for tree in trees:
                for query in items(parsed(tree)):
                    if query.get("utilityStmt", "<>") != "<>":
                        return "utility"
                    places.statement(query)
        except (Unread, KeyError, IndexError, TypeError) as error:
            return f"not read: {type(error).__name__} {error}"
        return places if trees else "utility"

    def close(self):
        """Ends the session."""
        self.connection.close()
