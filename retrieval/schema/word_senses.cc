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
    // Of trade and work.
    "client clients buyer buyers shopper shoppers : customer client",
    "customer customers : client customer",
    "bought buy buys buying purchase purchased purchases : order purchase invoice sale transaction",
    "sold sell sells selling sale sales : sale order invoice transaction",
    "ordered orders : order purchase",
    "bill billed bills : invoice bill",
    "item items product products goods article articles : product item article goods",
    "shop shops store stores : store shop",
    "employee employees worker workers staff works : employee staff worker",
    "boss manager managers supervisor : manager supervisor",
    "hire hired hires : hire start employment",
    "money paid spend spent spending : amount payment cost price",
    "dollar dollars euro euros usd eur : amount price cost currency",
    "owner owners owns owned : owner",
    "supplier suppliers vendor vendors : supplier vendor",
    "shipped shipping deliver delivered delivery : shipment delivery shipping",
    // Of health and study.
    "doctor doctors physician physicians : doctor physician",
    "medicine medicines drug drugs : medication medicine drug prescription",
    "illness illnesses disease diseases sick : disease diagnosis condition",
    "professor professors lecturer lecturers taught teach teaches teaching : professor instructor "
    "teacher faculty teach",
    "class classes lesson lessons course courses lecture : course class lesson section",
    "subject subjects major majors : major subject department",
    "university universities college colleges : college university school institution",
    "grade grades mark marks : grade score mark",
    "enrolled enroll enrollment : enrollment registration",
    // Of leisure.
    "song songs track tracks : song track",
    "record records album albums : album",
    "singer singers musician musicians band bands : artist singer musician band",
    "play plays played act acts acting : role cast actor player",
    "match matches game games : match game",
    "club clubs team teams : team club",
    "trainer trainers coach coaches : coach trainer",
    "champion champions championship : champion winner title",
    "goal goals : goal score",
    "restaurant restaurants : restaurant business",
    "photos pictures photograph : photo picture image",
    "book books novel novels : book publication",
    "published publish publishes paper papers : publication paper publisher",
    "comment comments : comment review text",
    "review reviews reviewed : review rating comment",
    "user users member members : user member",
    // Of things in general.
    "place places venue venues site sites : location venue site place",
    "car cars automobile : car vehicle",
    "vehicle vehicles : vehicle car",
    "street road : street address",
    "area region regions : region area district",
    "description describe explain detail details : description detail text",
    "note notes remark remarks : note comment remark",
    "status state condition : status state",
    "cancelled canceled completed pending active inactive : status",
    "kind sort genre genres style : type genre category style",
    "group groups : group category",
    "symbol abbreviation abbreviated short : code symbol abbreviation",
    "color colour colors colours : color colour",
    "black white red blue green yellow brown grey gray pink purple orange : color colour",
    "result results outcome : result outcome",
    "reason reasons why cause caused causes : reason cause",
    "visit visits visited attend attended : visit attendance",
    "maximum max highest most : max maximum",
    "minimum min lowest least : min minimum",
    "average mean avg : average avg mean",
    "married single marriage wife husband spouse : marital spouse",
    "dead alive living lifespan : death died birth",
    "zip postal postcode : zip postal postcode",
    // Months and days.
    "january february march april june july august september october november december : month "
    "date",
    "monday tuesday wednesday thursday friday saturday sunday weekday weekend : day date weekday",
    "morning evening afternoon night noon midnight : time",
    "before after since until during decade century : date year",
    // The world: names of places say which column they are values of.
    "alabama alaska arizona arkansas california colorado connecticut delaware florida hawaii idaho "
    "illinois indiana iowa kansas kentucky louisiana maine maryland massachusetts michigan "
    "minnesota mississippi missouri montana nebraska nevada ohio oklahoma oregon pennsylvania "
    "tennessee texas utah vermont virginia wisconsin wyoming carolina dakota hampshire jersey : "
    "state province",
    "afghanistan albania algeria argentina australia austria bahrain bangladesh belgium bolivia "
    "brazil bulgaria cambodia cameroon canada chile china colombia croatia cuba cyprus czech "
    "denmark ecuador egypt estonia ethiopia finland france germany ghana greece hungary iceland "
    "india indonesia iran iraq ireland israel italy jamaica japan kenya korea kuwait latvia "
    "lebanon lithuania luxembourg malaysia mexico monaco morocco nepal netherlands nigeria norway "
    "pakistan panama peru philippines poland portugal qatar romania russia scotland senegal serbia "
    "singapore slovakia slovenia spain sweden switzerland syria thailand tunisia turkey ukraine "
    "uruguay usa venezuela vietnam wales zealand zimbabwe england kingdom : country nation",
    "american british english french german italian spanish portuguese dutch belgian swiss "
    "austrian swedish norwegian danish finnish polish russian greek turkish chinese japanese "
    "korean indian australian canadian mexican brazilian brazilians argentine argentinian chilean "
    "irish scottish egyptian african european asian israeli czech hungarian romanian : "
    "country nationality",
    "europe asia africa oceania continent continents : continent region",
    "london paris berlin madrid rome moscow tokyo beijing delhi mumbai chicago boston houston "
    "dallas seattle philadelphia detroit atlanta miami denver phoenix prague vienna amsterdam "
    "toronto sydney melbourne angeles francisco diego : city town",
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
  // Names: capital letters where no sentence begins.
  bool begins = true;
  bool before = false;
  for (absl::string_view chunk :
       absl::StrSplit(ToAbsl(question), absl::ByAnyChar(" \t\r\n"), absl::SkipEmpty())) {
    const bool quoted = chunk[0] == '\'' || chunk[0] == '"' || chunk[0] == '`';
    const bool capital =
        !begins && absl::ascii_isupper(static_cast<unsigned char>(chunk[0])) && chunk.size() > 1;
    cues.entity = cues.entity || capital || quoted;
    cues.full_name = cues.full_name || (capital && before);
    before = capital;
    begins = chunk.back() == '.' || chunk.back() == '?' || chunk.back() == '!';
  }
  return cues;
}

}  // namespace octogate::schema
