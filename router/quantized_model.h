#ifndef OCTOGATE_ROUTER_QUANTIZED_MODEL_H_
#define OCTOGATE_ROUTER_QUANTIZED_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "router/softmax_regression.h"

// A trained linear model as decisions use it: with weights of 8 bits, a quarter of the memory that
// is read for each feature. Sums of weights are integers, so every order and every instruction set
// gives the same.

namespace octogate::router {

struct QuantizedModel {
  // What is added at a time; rows are whole blocks, padded with zeros.
  static constexpr size_t kBlock = 32;
  struct alignas(kBlock) Block {
    int8_t weights[kBlock];
  };

  size_t classes = 0;
  size_t blocks_per_row = 0;
  // Of each class, equal for all that were quantized together: scales[c] * weights[c] is within
  // scales[c] / 2 of the model's.
  std::vector<float> scales;
  std::vector<Block> blocks;  // Weights are in [-127, 127].
  std::vector<float> bias;    // `classes` of them.

  size_t rows() const { return blocks_per_row == 0 ? 0 : blocks.size() / blocks_per_row; }
};

QuantizedModel Quantize(const LinearModel& model);

// The weights of one class, of 8 bits.
struct QuantizedColumn {
  std::vector<int8_t> weights;  // Of each row.
  float scale = 0;
  float bias = 0;
};

QuantizedColumn QuantizeColumn(const std::vector<float>& weights, float bias);

// Adds a class behind the others, which keep their logits bit by bit. Rows that the model lacks are
// added, with zeros for the others; of rows that the column lacks it has zeros.
void AppendColumn(const QuantizedColumn& column, QuantizedModel* model);

// sums[c] += sum over rows of weights[row][c], for blocks_per_row whole blocks. Exact for fewer
// than 2^24 rows.
using SumRowsFunction = void (*)(const uint32_t* begin, const uint32_t* end,
                                 const QuantizedModel::Block* blocks, size_t blocks_per_row,
                                 int32_t* sums);
// Those that this machine can run, the fastest last; all give the same.
const std::vector<SumRowsFunction>& SumRowsFunctions();

// A sparse vector whose values are few, as counts of words are: `scale` times 1 for the rows in
// `once`, and times values[value] for those in `other`. A row may occur more than once.
struct GroupedRows {
  struct Row {
    uint32_t value;
    uint32_t row;
  };
  float scale = 0;
  std::vector<uint32_t> once;
  std::vector<Row> other;
};

// The logit of one class, equal to that of QuantizedLogits where the model has the column.
// `rows.other` is sorted by value, as QuantizedLogits leaves it.
float LogitOf(const QuantizedColumn& column, float (*value)(uint32_t), const GroupedRows& rows);

// Computes the logits of vectors. An object is scratch space, for one thread at a time.
class QuantizedLogits {
 public:
  // The logits of `model`, valid until the next call. `value` maps GroupedRows::Row::value to the
  // number that it stands for. Sorts `rows->other`.
  const std::vector<float>& Compute(const QuantizedModel& model, float (*value)(uint32_t),
                                    GroupedRows* rows);

 private:
  std::vector<uint32_t> group_;
  std::vector<int32_t> sums_;
  std::vector<float> totals_;
  std::vector<float> logits_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_QUANTIZED_MODEL_H_
