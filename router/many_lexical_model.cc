#include "router/many_lexical_model.h"

#include <algorithm>
#include <limits>
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

// A class of which nothing is known, so that it has no slot.
constexpr size_t kNowhere = std::numeric_limits<size_t>::max();

struct Texts {
  std::vector<std::string_view> all;
  std::vector<int> labels;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const ManyLexicalModel>> ManyLexicalModel::Train(
    int hash_bits, const SoftmaxTraining& training, const RoutingExamples& examples,
    absl::Time deadline, size_t most) {
  const size_t classes = examples.classes.size();
  const std::shared_ptr<ManyLexicalModel> model(
      new ManyLexicalModel(LexicalVocabulary(hash_bits), ClassPlaces(classes)));
  const auto trained = std::make_shared<Trained>();
  model->trained_ = trained;
  trained->classes = classes;
  if (most > kMost) trained->max_read = size_t{1} << 40;
  const auto none = static_cast<uint32_t>(classes);
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
    ClassRows class_rows = MeanRows(rows, texts.labels, some, classes + 1, kMeanLength);
    const ClassLists means = ListClasses(class_rows, classes, features, kMostForTraining);
    CandidateFinder finder(means, classes);
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
                                             training, deadline, &class_rows));
    model->Fold(class_rows, texts.all, most, trained.get());
    model->SetLearned();
    return absl::OkStatus();
  };

  OCTOGATE_RETURN_IF_ERROR(train(split.kept));
  CandidateCalibration calibration;
  const std::vector<bool> live(classes, true);
  Scratch scratch;
  for (const uint32_t i : split.left_out) {
    model->Read(texts.all[i], &scratch);
    model->Choose(live, &scratch);
    calibration.Add(scratch.candidates, scratch.none, static_cast<size_t>(texts.labels[i]),
                    classes);
    Clear(&scratch);
  }
  trained->temperature = calibration.Temperature();
  trained->coverage = calibration.Coverage();
  OCTOGATE_RETURN_IF_ERROR(train(selected));
  return model;
}

void ManyLexicalModel::Fold(const ClassRows& rows, const std::vector<std::string_view>& texts,
                            size_t most, Trained* trained) const {
  const size_t features = vocabulary_.rows();
  const size_t classes = trained->classes;
  trained->bias = rows.bias;
  std::vector<float>& none = trained->none;
  none.assign(features, 0);
  for (size_t k = rows.begin[classes]; k < rows.begin[classes + 1]; ++k) {
    none[rows.entries[k].feature] = rows.entries[k].value;
  }
  for (uint32_t f = 0; f < features; ++f) none[f] *= vocabulary_.ValueOf(f);
  trained->runs_begin.assign(1, 0);
  trained->runs.clear();
  for (const std::vector<uint32_t>& runs : vocabulary_.FindRuns(texts)) {
    trained->runs.insert(trained->runs.end(), runs.begin(), runs.end());
    trained->runs_begin.push_back(static_cast<uint32_t>(trained->runs.size()));
  }
  for (uint32_t f = 0; f < features; ++f) {
    for (const uint32_t run : trained->RunsOf(f)) none[f] += none[run];
  }

  const ClassLists whole = ListClasses(rows, classes, features, classes);
  trained->lists = ClassLists();
  std::vector<float> sums(classes, 0);
  std::vector<bool> seen(classes, false);
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
    for (const uint32_t run : trained->RunsOf(f)) add(run);
    for (ClassLists::Item& item : list) {
      item.weight = sums[item.index];
      sums[item.index] = 0;
      seen[item.index] = false;
    }
    trained->lists.Append(&list, most);
  }
  trained->lists.items.shrink_to_fit();
  trained->runs.shrink_to_fit();
}

std::span<const uint32_t> ManyLexicalModel::Trained::RunsOf(uint32_t row) const {
  if (row + 1 >= runs_begin.size()) return {};
  return std::span(runs).subspan(runs_begin[row], runs_begin[row + 1] - runs_begin[row]);
}

size_t ManyLexicalModel::Trained::MostOf(size_t rows_read) const {
  return std::max(kLeastRead, max_read / std::max<size_t>(rows_read, 1));
}

size_t ManyLexicalModel::SlotOf(size_t place) const {
  if (place == places_.classes) return none_slot();
  if (places_.trained_of[place] >= 0) return static_cast<size_t>(places_.trained_of[place]);
  if (places_.learned_of[place] < 0) return kNowhere;
  return trained_->classes + static_cast<size_t>(places_.learned_of[place]);
}

int ManyLexicalModel::PlaceOf(size_t slot) const {
  if (slot < trained_->classes) return places_.place_of[slot];
  return static_cast<int>(learned_[slot - trained_->classes].place);
}

double ManyLexicalModel::BiasOf(size_t place) const {
  const size_t slot = SlotOf(place);
  return slot == kNowhere ? 0 : bias_[slot];
}

std::vector<double> ManyLexicalModel::WeightsOf(
    const std::vector<LexicalVocabulary::NamedRow>& rows, size_t place) const {
  const size_t slot = SlotOf(place);
  const auto known = static_cast<size_t>(std::count_if(
      rows.begin(), rows.end(), [this](const auto& row) { return row.row < trained_->rows(); }));
  // Of the slot among the first items of a list.
  const auto find = [slot](const ClassLists& lists, uint32_t row, size_t most) -> double {
    if (row + 1 >= lists.begin.size()) return 0;
    const size_t begin = lists.begin[row];
    const size_t end = std::min(lists.begin[row + 1], begin + most);
    for (size_t k = begin; k < end; ++k) {
      if (lists.items[k].index == slot) return lists.items[k].weight;
    }
    return 0;
  };
  std::vector<double> weights;
  for (const LexicalVocabulary::NamedRow& named : rows) {
    const uint32_t row = named.row;
    double weight = find(learned_lists_, row, learned_.size());
    for (const uint32_t run : trained_->RunsOf(row)) {
      weight += find(learned_lists_, run, learned_.size());
    }
    if (slot == none_slot() && row < trained_->rows()) {
      weight += trained_->none[row];
    } else if (slot < trained_->classes) {
      weight += find(trained_->lists, row, trained_->MostOf(known));
    }
    weights.push_back(weight);
  }
  return weights;
}

void ManyLexicalModel::Read(std::string_view text, Scratch* scratch) const {
  scratch->sums.resize(bias_.size(), 0);
  scratch->seen.resize(bias_.size(), 0);
  scratch->touched.clear();
  vocabulary_.Read(text, &scratch->extractor, &scratch->rows);
  const auto add_item = [scratch](const ClassLists::Item& item, float factor) {
    if (scratch->seen[item.index] == 0) {
      scratch->seen[item.index] = 1;
      scratch->touched.push_back(item.index);
    }
    scratch->sums[item.index] += factor * item.weight;
  };
  std::vector<uint32_t>& once = scratch->rows.once;
  std::vector<GroupedRows::Row>& other = scratch->rows.other;
  float learned_none = 0;
  if (!learned_.empty()) {
    const auto add = [&](uint32_t row, float factor) {
      if (row + 1 >= learned_lists_.begin.size()) return;
      for (size_t k = learned_lists_.begin[row]; k < learned_lists_.begin[row + 1]; ++k) {
        const ClassLists::Item& item = learned_lists_.items[k];
        if (item.index == none_slot()) {
          learned_none += factor * item.weight;
        } else {
          add_item(item, factor);
        }
      }
    };
    const auto add_whole = [&](uint32_t row, float factor) {
      add(row, factor);
      for (const uint32_t run : trained_->RunsOf(row)) add(run, factor);
    };
    for (const uint32_t row : once) add_whole(row, 1);
    for (const GroupedRows::Row& row : other) {
      add_whole(row.row, LexicalVocabulary::Frequency(row.value));
    }
  }
  // Of what is left the trained classes' logits are those that they had before.
  if (const size_t rows = trained_->rows(); vocabulary_.rows() > rows) {
    std::erase_if(once, [rows](uint32_t row) { return row >= rows; });
    std::erase_if(other, [rows](const GroupedRows::Row& row) { return row.row >= rows; });
  }

  const ClassLists& lists = trained_->lists;
  const std::vector<float>& none_weights = trained_->none;
  const size_t most = trained_->MostOf(once.size() + other.size());
  float none = 0;
  const auto add = [&](uint32_t row, float factor) {
    none += factor * none_weights[row];
    const size_t begin = lists.begin[row];
    const ClassLists::Item* const end =
        lists.items.data() + std::min(lists.begin[row + 1], begin + most);
    for (const auto* item = lists.items.data() + begin; item != end; ++item) {
      add_item(*item, factor);
    }
  };
  // Lists are all over the memory: where they begin, and then they, are asked for this many rows
  // ahead.
  constexpr size_t kAhead = 8;
  for (size_t i = 0; i < once.size(); ++i) {
    if (i + 2 * kAhead < once.size()) __builtin_prefetch(&lists.begin[once[i + 2 * kAhead]]);
    if (i + kAhead < once.size()) {
      const auto* const items = lists.items.data() + lists.begin[once[i + kAhead]];
      __builtin_prefetch(items);
      __builtin_prefetch(items + kLeastRead - 1);
      __builtin_prefetch(&none_weights[once[i + kAhead]]);
    }
    add(once[i], 1);
  }
  for (const GroupedRows::Row& row : other) {
    add(row.row, LexicalVocabulary::Frequency(row.value));
  }
  const float scale = scratch->rows.scale;
  for (const uint32_t slot : scratch->touched) {
    scratch->sums[slot] = bias_[slot] + scale * scratch->sums[slot];
  }
  scratch->none = bias_[none_slot()] + scale * (none + learned_none);
}

void ManyLexicalModel::Choose(const std::vector<bool>& live, Scratch* scratch) const {
  const auto before = [](const ClassLogit& a, const ClassLogit& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.index < b.index;
  };
  // A heap with the last of them in front, which most of the many classes touched do not pass.
  std::vector<ClassLogit>& candidates = scratch->candidates;
  candidates.clear();
  for (const uint32_t slot : scratch->touched) {
    const int place = PlaceOf(slot);
    if (place < 0 || !live[static_cast<size_t>(place)]) continue;
    const ClassLogit candidate = {static_cast<uint32_t>(place), scratch->sums[slot]};
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
  for (const uint32_t slot : scratch->touched) {
    scratch->sums[slot] = 0;
    scratch->seen[slot] = 0;
  }
  scratch->touched.clear();
}

void ManyLexicalModel::Score(std::string_view text, const std::vector<bool>& live,
                             HeadScores* scores) const {
  std::unique_ptr<Scratch> scratch = scratch_.Take();
  Read(text, scratch.get());
  Choose(live, scratch.get());
  ScoreCandidates(&scratch->candidates, scratch->none, places_.classes, trained_->temperature,
                  trained_->coverage, scores);
  Clear(scratch.get());
  scratch_.Return(std::move(scratch));
}

std::vector<float> ManyLexicalModel::Logits(std::string_view text) const {
  Scratch scratch;
  Read(text, &scratch);
  std::vector<float> logits(places_.classes + 1, SummedLogits::kNoLogit);
  for (const uint32_t slot : scratch.touched) {
    const int place = PlaceOf(slot);
    if (place >= 0) logits[static_cast<size_t>(place)] = scratch.sums[slot];
  }
  logits[places_.classes] = scratch.none;
  return logits;
}

size_t ManyLexicalModel::bytes() const {
  size_t bytes =
      (trained_->none.capacity() + trained_->bias.capacity() + bias_.capacity()) * sizeof(float) +
      (trained_->runs_begin.capacity() + trained_->runs.capacity()) * sizeof(uint32_t);
  for (const ClassLists* lists : {&trained_->lists, &learned_lists_}) {
    bytes += lists->items.capacity() * sizeof(ClassLists::Item) +
             lists->begin.capacity() * sizeof(size_t);
  }
  return bytes;
}

}  // namespace octogate::router
