#include "retrieval/schema/word_senses.h"

#include <algorithm>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "common/strings.h"
#include "retrieval/schema/words.h"

namespace octogate::schema {
namespace {

// Words of questions : words of columns.
constexpr const char* kSenses[] = {
    "old oldest older young youngest younger : age birth birthday birthdate born dob",
    "born birth birthday : birth birthday birthdate dob birthplace",
    "tall taller tallest short shortest : height length",
    "heavy heavier heaviest light lightest weigh weighs : weight mass",
    "long longest longer duration last lasted : length duration time hours minutes distance",
    "fast faster fastest slow slowest quick quickest : speed time pace",
    "cheap cheaper cheapest expensive cost costs costing charge charged pricey : price cost fee "
    "amount",
    "pay paid pays payment salary earn earns earning wage : salary pay amount income wage payment",
    "price priced prices : price cost",
    "rich richest money worth : amount balance money value income",
    "big bigger biggest large larger largest small smaller smallest : size area population "
    "capacity",
    "where located location place situated : location city address place country state region "
    "county",
    "when : date year time day",
    "day days date : date day time",
    "month months : month date",
    "year years annual : year date season",
    "who whom people person persons : name",
    "called named titled : name title",
    "nation nations nationality citizen citizens : country nationality nation",
    "country countries : country nation nationality",
    "female male males females woman women man men boy girl boys girls gender sex : gender sex",
    "town towns city cities : city town",
    "website site url link : url website link",
    "mail email : email",
    "call phone telephone contact : phone telephone",
    "popular popularity : rating votes views popularity rank",
    "best worst top rated : rating rank score position",
    "score scored scores scoring : score points goals",
    "win won wins winning winner winners : win winner won wins",
    "lose lost loses loser : loser losses loss",
    "number amount quantity count total : number num count quantity total amount",
    "start started begin began begins opened open opening : start begin open date",
    "end ended finish finished closed close closing : end finish close date",
    "full : name",
    "surname : last name",
    "forename : first name",
    "language languages speak spoken : language",
    "type types kind kinds category categories sort : type kind category class",
    "author authors written wrote writer : author writer",
    "percent percentage rate ratio proportion : percent percentage rate pct",
    "death died dead die deaths : death died dead deceased",
    "address street live lives living : address street city",
    "job occupation profession position : job title position occupation",
    "firm company companies employer : company firm",
    "kid kids child children : child children",
    "hometown : town city",
    "teacher instructor professor : teacher instructor faculty professor",
    "pupil pupils student students : student",
    "film films movie movies : movie film",
    "picture photo image : image picture photo",
    "id identifier identification code : id code",
    "coordinate coordinates : latitude longitude lat lng lon",
};

const absl::flat_hash_set<std::string>& Words(const char* list) {
  const std::vector<std::string> words = absl::StrSplit(list, ' ');
  return *new absl::flat_hash_set<std::string>(words.begin(), words.end());
}

}  // namespace

std::span<const std::string> SensesOf(std::string_view word) {
  static const auto* const senses = [] {
    auto* map = new absl::flat_hash_map<std::string, std::vector<std::string>>;
    for (const char* line : kSenses) {
      const std::vector<std::string> sides = absl::StrSplit(line, " : ");
      const std::vector<std::string> asked = absl::StrSplit(sides[0], ' ');
      const std::vector<std::string> meant = absl::StrSplit(sides[1], ' ');
      for (const std::string& key : asked) {
        std::vector<std::string>& stems = (*map)[key];
        for (const std::string& sense : meant) {
          std::string stem = Stem(sense);
          const bool known = std::find(stems.begin(), stems.end(), stem) != stems.end();
          if (!known && stem != Stem(key)) stems.push_back(std::move(stem));
        }
      }
    }
    return map;
  }();
  const auto found = senses->find(ToAbsl(word));
  if (found == senses->end()) return {};
  return found->second;
}

QuestionCues CuesOf(std::string_view question) {
  static const auto& time = Words(
      "when date dates year years month months day days before after since until during earliest "
      "latest recent recently oldest newest born founded century decade");
  static const auto& number = Words(
      "average avg mean total sum highest lowest most least maximum minimum max min more less "
      "fewer "
      "over under above below between exceed exceeds percentage percent ratio rate difference top "
      "largest smallest greatest biggest times rank ranking");
  static const auto& name = Words("who whom whose which name names list called title titles");
  QuestionCues cues;
  for (const std::string& word : SplitWords(question)) {
    cues.time = cues.time || time.contains(word) ||
                (word.size() == 4 && (word[0] == '1' || word[0] == '2') &&
                 std::all_of(word.begin(), word.end(),
                             [](unsigned char c) { return absl::ascii_isdigit(c); }));
    cues.number = cues.number || number.contains(word);
    cues.name = cues.name || name.contains(word);
  }
  return cues;
}

}  // namespace octogate::schema
