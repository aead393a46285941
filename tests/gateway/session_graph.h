// A graph whose router would rather stay where a conversation is.
#ifndef OCTOGATE_TESTS_GATEWAY_SESSION_GRAPH_H_
#define OCTOGATE_TESTS_GATEWAY_SESSION_GRAPH_H_

namespace octogate::gateway {

inline constexpr char kSessionGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  nodes:
    - name: main
      router: {members: [sums, music], fallback: sorry, hysteresis: 1,
               heads: [{threshold: 0.4, lexical: {}}]}
    - name: sums
      tool: {tool: reply, parameters: {text: sums}}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80, square root of 16,
                 divide 10 by 4, what is 9 minus 2, multiply 3 by 7]
    - name: music
      tool: {tool: reply, parameters: {text: music}}
      examples: [play a song, play some jazz, play the next song, turn up the music,
                 skip this song, put on my favourite song, play music from 1999, stop the music]
    - {name: sorry, tool: {tool: reply, parameters: {text: sorry}}}
)";
inline constexpr char kJazz[] = "play some jazz";
inline constexpr char kSum[] = "what is 2 plus 3";

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_SESSION_GRAPH_H_
