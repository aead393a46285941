// What octoctl's help says below its lists of commands and options.
#ifndef OCTOGATE_GATEWAY_OCTOCTL_HELP_TEXTS_H_
#define OCTOGATE_GATEWAY_OCTOCTL_HELP_TEXTS_H_

namespace octogate::octoctl {

inline constexpr char kFooter[] =
    "Examples:\n"
    "  octoctl apply -f deploy/graphs/example.yaml\n"
    "  octoctl ask --trace \"find files larger than 100 MB under /var\"\n"
    "  octoctl route --all-heads \"what is 12% of 250\"\n"
    "  octoctl get nodes -o wide\n"
    "  octoctl view -o svg --out graph.svg\n"
    "  octoctl explain last\n"
    "  octoctl replay --graph new.yaml\n"
    "  octoctl feedback give TRACE better calculator\n"
    "  octoctl catalog link shop \"which customers are from Norway\"\n"
    "  octoctl bench route --suite labelled.tsv\n"
    "  octoctl drafts build --tokenizer models/llama3 --output docs.drafts docs/\n"
    "  octoctl cache stats\n"
    "\n"
    "Exit status: 0 success; 1 diff found differences; 2 wrong command line or unreadable file;\n"
    "3 input refused; 4 not found; 5 another version is applied than expected; 6 no answer in\n"
    "time; 7 limit reached or not permitted; 10 anything else.";

inline constexpr char kAskFooter[] =
    "Examples:\n"
    "  octoctl ask 'Weather in Paris as JSON' --json\n"
    "  octoctl ask 'Weather in Paris' --node small --json-schema weather.schema.json\n"
    "  octoctl ask 'Is 7 a prime number?' --grammar yes-no.gbnf";

inline constexpr char kCatalogFooter[] =
    "Examples:\n"
    "  octoctl catalog add shop --sqlite shop.sqlite --sensitive customers.notes\n"
    "  octoctl catalog add flights --spider tables.json --database flight_2\n"
    "  octoctl catalog add firms --postgresql FIRMS_DSN\n"
    "  octoctl catalog get shop orders\n"
    "  octoctl catalog get shop -o json > shop.json\n"
    "  octoctl catalog link shop --focused \"which customers are from Norway\"\n"
    "  octoctl catalog refresh shop";

inline constexpr char kCacheFooter[] =
    "Examples:\n"
    "  octoctl cache stats\n"
    "  octoctl cache stats --tenant acme -o json\n"
    "  octoctl cache flush --tenant acme\n"
    "  octoctl cache flush --kind answers\n"
    "  octoctl cache flush --model llama --tenant acme\n"
    "  octoctl cache explain \"what is 12% of 250\"";

inline constexpr char kCacheStatsFooter[] =
    "Of models, replicas are asked every 5 seconds: their numbers are as old as that at most.\n"
    "prefixes are pages in their memory, pages those that they share through a store, and drafts\n"
    "what those that speculate have learned, with drafted tokens for lookups and those that were\n"
    "right for hits. None of the three is counted by tenant.";

inline constexpr char kCacheExplainFooter[] =
    "Replicas are asked what they have of the prompt, of this tenant: in memory, and in the store\n"
    "that they share pages through, with what fetching and computing are expected to take. They\n"
    "compute, read and forget nothing for it. Where a router's decision is not kept, what comes\n"
    "behind it is not known: --node NODE asks for one node.";

inline constexpr char kCacheFlushFooter[] =
    "What is counted is the gateway's own: how much of what gateways share is found no more,\n"
    "nobody counts.\n"
    "\n"
    "With --model, decisions and answers stay: they do not tell the models that they come from.\n"
    "Flush them without it, all or by --tenant. Of pages, queries under way keep what they use\n"
    "and leave nothing of it; those that are shared are found no more, and go as they expire,\n"
    "within an hour. What drafters have learned stays. A replica that does not answer is named,\n"
    "the others have flushed, and the exit status is not 0: repeat it then.";

inline constexpr char kBenchRouteFooter[] =
    "Examples:\n"
    "  octoctl bench route --suite labelled.tsv\n"
    "  octoctl bench route --suite chat.tsv --suite sql.jsonl --router inner\n"
    "  octoctl bench route --suite labelled.tsv -o json > before.json\n"
    "\n"
    "ACCURACY, CALIBRATION ERROR and RECALL (of the queries out of scope) are of every query,\n"
    "drained nodes included. ROUTE is a whole call as this client sees it, one after the\n"
    "other; DECISION the gateway's own part, and TOKENS what encoder and causal heads read\n"
    "and write: the mean of a query.";

inline constexpr char kDraftsFooter[] =
    "Examples:\n"
    "  octoctl drafts build --tokenizer models/llama3 --output docs.drafts docs/ answers.jsonl\n"
    "  octoctl drafts build --tokenizer models/llama3 --output chats.drafts \\\n"
    "      --field prompt --field answer chats.jsonl\n"
    "  octoctl drafts append docs.drafts --tokenizer models/llama3 more/\n"
    "  octoctl drafts compact docs.drafts --near-matches\n"
    "  octoctl drafts describe docs.drafts -o json\n"
    "\n"
    "A store serves the models whose tokenizer it was built with. It can be replaced, added to\n"
    "and compacted while workers have it open: they keep what they have opened.";

}  // namespace octogate::octoctl

#endif  // OCTOGATE_GATEWAY_OCTOCTL_HELP_TEXTS_H_
