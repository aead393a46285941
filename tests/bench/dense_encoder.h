// The sentence encoder of the linking benchmark as schema linking sees one.
#ifndef OCTOGATE_TESTS_BENCH_DENSE_ENCODER_H_
#define OCTOGATE_TESTS_BENCH_DENSE_ENCODER_H_

#include <filesystem>
#include <string>
#include <vector>

#include "retrieval/schema/dense_index.h"

namespace octogate::bench {

// Vectors are kept in the file `cache`, for this model alone; empty: they are not. Called by one
// thread at a time. A failure ends the program.
schema::TextEncoder LoadTextEncoder(const std::filesystem::path& folder, const std::string& cache);

// The vector of one text.
std::vector<float> EmbedOne(const schema::TextEncoder& encoder, const std::string& text);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_DENSE_ENCODER_H_
