#include "router/many_lexical_model.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/status.h"
#include "router/background_queries.h"
#include "router/lexical_head.h"
#include "router/softmax_row.h"

namespace octogate::router {
namespace {

// Of the mean of a class's examples before it is trained.
constexpr float kMeanLength = 8;
// Of each list a decision reads so much in any case.
constexpr size_t kLeastRead = 12;
// Classes that a feature leads to where candidates for training are looked for.
constexpr size_t kMostForTraining = 128;

struct Texts {
  std::vector<std::string_view> all;
  std::vector<int> labels;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const ManyLexicalModel>> ManyLexicalModel::Train(
    int hash_bits, const SoftmaxTraining& training, const RoutingExamples& examples,
    absl::Time deadline, size_t most) {
  const std::shared_ptr<ManyLexicalModel> model(new ManyLexicalModel(hash_bits));
  model->classes_ = examples.classes.size();
  if (most > kMost) model->max_read_ = size_t{1} << 40;
  const auto none = static_cast<uint32_t>(model->classes_);
  Texts texts;
  for (size_t c = 0; c < examples.classes.size(); ++c) {
    texts.all.insert(texts.all.end(), examples.classes[c].begin(), examples.classes[c].end());
    texts.labels.resize(texts.all.size(), static_cast<int>(c));
  }
  const size_t own = texts.all.size();
  texts.all.insert(texts.all.end(), examples.none.begin(), examples.none.end());
  const size_t background = texts.all.size();
  texts.all.insert(texts.all.end(), BackgroundQueries().begin(), BackgroundQueries().end());
  texts.labels.resize(texts.all.size(), static_cast<int>(none));

  const SparseRows rows = model->vocabulary_.Index(texts.all);
  const size_t features = model->vocabulary_.rows();
  const std::vector<bool> on_subject = LexicalHead::FindOnSubject(rows, own, background, features);
  std::vector<uint32_t> selected;
  for (uint32_t i = 0; i < texts.all.size(); ++i) {
    if (i >= background && on_subject[i - background]) continue;
    selected.push_back(i);
  }
  const CandidateSplit split = HoldOutForCalibration(selected);
  std::vector<std::vector<uint32_t>> candidates(texts.all.size());
  const auto train = [&](const std::vector<uint32_t>& some) -> absl::Status {
    ClassRows trained = MeanRows(rows, texts.labels, some, model->classes_ + 1, kMeanLength);
    const ClassLists means = ListClasses(trained, model->classes_, features, kMostForTraining);
    CandidateFinder finder(means, model->classes_);
    for (const uint32_t i : some) {
      if (absl::Now() >= deadline) {
        return absl::DeadlineExceededError("looked for candidates until the deadline");
      }
      finder.Find(&rows.entries[rows.begin[i]], rows.entries.data() + rows.begin[i + 1],
                  kCandidates, &candidates[i]);
      const auto label = static_cast<uint32_t>(texts.labels[i]);
      std::vector<uint32_t>& own_candidates = candidates[i];
      const auto place = std::lower_bound(own_candidates.begin(), own_candidates.end(), label);
      if (place == own_candidates.end() || *place != label) own_candidates.insert(place, label);
      if (label != none) own_candidates.push_back(none);
    }
    OCTOGATE_RETURN_IF_ERROR(TrainCandidates(rows, texts.labels, some, candidates, features,
                                             training, deadline, &trained));
    model->Fold(trained, texts.all, most);
    return absl::OkStatus();
  };

  OCTOGATE_RETURN_IF_ERROR(train(split.kept));
  CandidateCalibration calibration;
  const std::vector<bool> live(model->classes_, true);
  Scratch scratch;
  for (const uint32_t i : split.left_out) {
    model->Read(texts.all[i], &scratch);
    model->Choose(live, &scratch);
    calibration.Add(scratch.candidates, scratch.none, static_cast<size_t>(texts.labels[i]),
                    model->classes_);
    Clear(&scratch);
  }
  model->temperature_ = calibration.Temperature();
  model->coverage_ = calibration.Coverage();
  OCTOGATE_RETURN_IF_ERROR(train(selected));
  return model;
}

void ManyLexicalModel::Fold(const ClassRows& rows, const std::vector<std::string_view>& texts,
                            size_t most) {
  const size_t features = vocabulary_.rows();
  bias_ = rows.bias;
  none_.assign(features, 0);
  for (size_t k = rows.begin[classes_]; k < rows.begin[classes_ + 1]; ++k) {
    none_[rows.entries[k].feature] = rows.entries[k].value;
  }
  for (uint32_t f = 0; f < features; ++f) none_[f] *= vocabulary_.ValueOf(f);
  const std::vector<std::vector<uint32_t>> runs = vocabulary_.FindRuns(texts);
  for (size_t term = 0; term < runs.size(); ++term) {
    for (const uint32_t run : runs[term]) none_[term] += none_[run];
  }

  const ClassLists whole = ListClasses(rows, classes_, features, classes_);
  lists_ = ClassLists();
  std::vector<float> sums(classes_, 0);
  std::vector<bool> seen(classes_, false);
  std::vector<ClassLists::Item> list;
  for (uint32_t f = 0; f < features; ++f) {
    list.clear();
    const auto add = [&](uint32_t feature) {
      const float value = vocabulary_.ValueOf(feature);
      for (size_t k = whole.begin[feature]; k < whole.begin[feature + 1]; ++k) {
        const ClassLists::Item& item = whole.items[k];
        if (!seen[item.index]) {
          seen[item.index] = true;
          list.push_back({item.index, 0});
        }
        sums[item.index] += item.weight * value;
      }
    };
    add(f);
    if (f < runs.size()) {
      for (const uint32_t run : runs[f]) add(run);
    }
    for (ClassLists::Item& item : list) {
      item.weight = sums[item.index];
      sums[item.index] = 0;
      seen[item.index] = false;
    }
    lists_.Append(&list, most);
  }
  lists_.items.shrink_to_fit();
}

size_t ManyLexicalModel::MostOf(size_t rows_read) const {
  return std::max(kLeastRead, max_read_ / std::max<size_t>(rows_read, 1));
}

double ManyLexicalModel::WeightOf(uint32_t row, size_t place, size_t rows_read) const {
  if (place == classes_) return none_[row];
  const size_t begin = lists_.begin[row];
  const size_t end = std::min(lists_.begin[row + 1], begin + std::min(MostOf(rows_read), classes_));
  for (size_t k = begin; k < end; ++k) {
    if (lists_.items[k].index == place) return lists_.items[k].weight;
  }
  return 0;
}

void ManyLexicalModel::Read(std::string_view text, Scratch* scratch) const {
  scratch->sums.resize(classes_, 0);
  scratch->seen.resize(classes_, 0);
  scratch->touched.clear();
  vocabulary_.Read(text, &scratch->extractor, &scratch->rows);
  const size_t most = MostOf(scratch->rows.once.size() + scratch->rows.other.size());
  float none = 0;
  const auto add = [&](uint32_t row, float factor) {
    none += factor * none_[row];
    const size_t begin = lists_.begin[row];
    const ClassLists::Item* const end =
        lists_.items.data() + std::min(lists_.begin[row + 1], begin + most);
    for (const auto* item = lists_.items.data() + begin; item != end; ++item) {
      if (scratch->seen[item->index] == 0) {
        scratch->seen[item->index] = 1;
        scratch->touched.push_back(item->index);
      }
      scratch->sums[item->index] += factor * item->weight;
    }
  };
  // Lists are all over the memory: where they begin, and then they, are asked for this many rows
  // ahead.
  constexpr size_t kAhead = 8;
  const std::vector<uint32_t>& once = scratch->rows.once;
  for (size_t i = 0; i < once.size(); ++i) {
    if (i + 2 * kAhead < once.size()) __builtin_prefetch(&lists_.begin[once[i + 2 * kAhead]]);
    if (i + kAhead < once.size()) {
      const auto* const items = lists_.items.data() + lists_.begin[once[i + kAhead]];
      __builtin_prefetch(items);
      __builtin_prefetch(items + kLeastRead - 1);
      __builtin_prefetch(&none_[once[i + kAhead]]);
    }
    add(once[i], 1);
  }
  for (const GroupedRows::Row& row : scratch->rows.other) {
    add(row.row, LexicalVocabulary::Frequency(row.value));
  }
  const float scale = scratch->rows.scale;
  for (const uint32_t c : scratch->touched) {
    scratch->sums[c] = bias_[c] + scale * scratch->sums[c];
  }
  scratch->none = bias_[classes_] + scale * none;
}

void ManyLexicalModel::Choose(const std::vector<bool>& live, Scratch* scratch) {
  const auto before = [](const ClassLogit& a, const ClassLogit& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.index < b.index;
  };
  // A heap with the last of them in front, which most of the many classes touched do not pass.
  std::vector<ClassLogit>& candidates = scratch->candidates;
  candidates.clear();
  for (const uint32_t c : scratch->touched) {
    if (!live[c]) continue;
    const ClassLogit candidate = {c, scratch->sums[c]};
    if (candidates.size() == kCandidates) {
      if (!before(candidate, candidates.front())) continue;
      std::pop_heap(candidates.begin(), candidates.end(), before);
      candidates.pop_back();
    }
    candidates.push_back(candidate);
    std::push_heap(candidates.begin(), candidates.end(), before);
  }
}

void ManyLexicalModel::Clear(Scratch* scratch) {
  for (const uint32_t c : scratch->touched) {
    scratch->sums[c] = 0;
    scratch->seen[c] = 0;
  }
  scratch->touched.clear();
}

void ManyLexicalModel::Score(std::string_view text, const std::vector<bool>& live,
                             HeadScores* scores) const {
  std::unique_ptr<Scratch> scratch = scratch_.Take();
  Read(text, scratch.get());
  Choose(live, scratch.get());
  ScoreCandidates(&scratch->candidates, scratch->none, classes_, temperature_, coverage_, scores);
  Clear(scratch.get());
  scratch_.Return(std::move(scratch));
}

std::vector<float> ManyLexicalModel::Logits(std::string_view text) const {
  Scratch scratch;
  Read(text, &scratch);
  std::vector<float> logits(classes_ + 1, SummedLogits::kNoLogit);
  for (const uint32_t c : scratch.touched) logits[c] = scratch.sums[c];
  logits[classes_] = scratch.none;
  return logits;
}

size_t ManyLexicalModel::bytes() const {
  return lists_.items.capacity() * sizeof(ClassLists::Item) +
         lists_.begin.capacity() * sizeof(size_t) +
         (none_.capacity() + bias_.capacity()) * sizeof(float);
}

}  // namespace octogate::router
