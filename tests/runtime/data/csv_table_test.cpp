#include "troupe/runtime/data/csv_table.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/data/mnist.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <zlib.h>

#include <cmath>
#include <string>

namespace troupe {
namespace {

using Missing = CsvOptions::Missing;
using testing::ElementsAre;
using testing::HasSubstr;

class Csv : public testing::Test {
 protected:
  CsvTable read(const std::string& text, const CsvOptions& options = {}) {
    put(dir_ / "table.csv", text);
    return read_csv(dir_ / "table.csv", options);
  }
  /// What it is told, without the file's name.
  std::string refused(const std::string& text, const CsvOptions& options = {}) {
    const auto said = refusal([&] { read(text, options); });
    const auto name = (dir_ / "table.csv").string();
    return said.starts_with(name) ? said.substr(name.size()) : said;
  }
  TempDir dir_;
};

torch::Tensor numbers(std::vector<double> values, std::vector<int64_t> shape) {
  return torch::tensor(values, torch::kFloat64).view(shape);
}

TEST_F(Csv, ReadsNamesAndNumbers) {
  const auto table = read("a, b ,c\n1,-2.5,3e2\n 4 ,+5,.5\n");
  EXPECT_THAT(table.columns, ElementsAre("a", "b", "c"));
  EXPECT_EQ(table.rows(), 2);
  EXPECT_TRUE(table.values.equal(numbers({1, -2.5, 300, 4, 5, 0.5}, {2, 3})));
  EXPECT_TRUE(table.column("b").equal(numbers({-2.5, 5}, {2})));
  EXPECT_TRUE(table.select({"c", "a"}).equal(numbers({300, 1, 0.5, 4}, {2, 2})));
  EXPECT_EQ(refusal([&] { table.column("cc"); }), "the table has no column 'cc'; did you mean 'c'?");
}

TEST_F(Csv, ReadsWhatSpreadsheetsWrite) {
  // A byte order mark, CRLF, blank lines, semicolons, no line end at the end.
  EXPECT_TRUE(
      read("\xEF\xBB\xBFx;y\r\n\r\n1;2\r\n\n3;4", {.delimiter = ';'}).values.equal(numbers({1, 2, 3, 4}, {2, 2})));
  EXPECT_TRUE(read("x\ty\n1\t2\n", {.delimiter = '\t'}).column("y").equal(numbers({2}, {1})));
  const auto quoted = read("\"a, \"\"b\"\"\",c,\"1\"\n\"1\",\"two\nlines, both\" ,3\n", {.usecols = {"a, \"b\"", "1"}});
  EXPECT_TRUE(quoted.values.equal(numbers({1, 3}, {1, 2})));
}

TEST_F(Csv, SaysThatAFileIsOfAnotherEncoding) {
  const std::string wide = ": the file is UTF-16 or UTF-32, a table is UTF-8: save it as that";
  EXPECT_EQ(refused(std::string("\xFF\xFE"
                                "a\0,\0b\0\n\0",
                                10)),
            wide);
  EXPECT_EQ(refused(std::string("a\0,\0b\0\n\0", 8)), wide);
  EXPECT_EQ(refused(std::string("\0a\0,\0b\0\n", 8)), wide);
  EXPECT_THAT(refusal([&] { read_mnist_csv(dir_ / "table.csv"); }), HasSubstr(wide));
}

TEST_F(Csv, ReadsGzip) {
  gzFile file = gzopen((dir_ / "table.csv.gz").c_str(), "wb");
  gzputs(file, "a\n1\n2\n");
  gzclose(file);
  EXPECT_TRUE(read_csv(dir_ / "table.csv.gz").column("a").equal(numbers({1, 2}, {2})));
}

TEST_F(Csv, NamesColumnsOfAFileWithoutAHeader) {
  EXPECT_THAT(read("1,2\n", {.header = false}).columns, ElementsAre("column_1", "column_2"));
  EXPECT_THAT(read("a,\n1,2\n").columns, ElementsAre("a", "column_2"));
  const CsvOptions named{.header = false, .names = {"x", "y"}};
  EXPECT_TRUE(read("1,2\n", named).column("y").equal(numbers({2}, {1})));
  EXPECT_THAT(read("a,b\n1,2\n", {.names = {"x", "y"}}).columns, ElementsAre("x", "y"));
  EXPECT_EQ(refused("1,2,3\n", named), ": line 1 has 3 columns; names has 2");
}

TEST_F(Csv, ChoosesColumnsInTheOrderAskedFor) {
  const auto table = read("car,mpg,weight\nford,17,3449\n", {.usecols = {"weight", "mpg"}});
  EXPECT_THAT(table.columns, ElementsAre("weight", "mpg"));
  EXPECT_TRUE(table.values.equal(numbers({3449, 17}, {1, 2})));
  EXPECT_EQ(refused("car,mpg\nford,17\n", {.usecols = {"mgp"}}), " has no column 'mgp'; did you mean 'mpg'?");
}

TEST_F(Csv, MissingValuesAreRefusedDroppedOrNan) {
  const std::string text = "a,b\n1,?\n2,3\n,4\n";
  EXPECT_EQ(refused(text), ": line 2 column 2 (b) is '?', a missing value; on_missing says what to do with such rows");
  EXPECT_TRUE(read(text, {.on_missing = Missing::drop_row}).values.equal(numbers({2, 3}, {1, 2})));
  const auto kept = read(text, {.on_missing = Missing::nan});
  EXPECT_EQ(kept.rows(), 3);
  EXPECT_TRUE(kept.values.isnan().equal(torch::tensor({{false, true}, {false, false}, {true, false}})));
  // What counts as missing can be said, and only in columns that are read.
  EXPECT_EQ(read("a,b\n1,-9\n2,3\n", {.na_values = {"-9"}, .on_missing = Missing::drop_row}).rows(), 1);
  EXPECT_EQ(read(text, {.usecols = {"b"}, .on_missing = Missing::drop_row}).rows(), 2);
  EXPECT_EQ(refused("a\n?\n", {.on_missing = Missing::drop_row}), " has no row of numbers");
}

TEST_F(Csv, PartsFieldsAtAnyNumberOfBlanks) {
  const CsvOptions blanks{.delimiter = ' '};
  const auto table = read("a  b\t\tc\n  1 2  3\n4\t5\t \t6  \n \t \n", blanks);
  EXPECT_THAT(table.columns, ElementsAre("a", "b", "c"));
  EXPECT_TRUE(table.values.equal(numbers({1, 2, 3, 4, 5, 6}, {2, 3})));
  // The rows of the UCI repository's housing.data begin with a blank and have no header.
  const auto housing =
      read(" 0.00632  18.00   2.310  0\n 0.02731   0.00   7.070  0\n", {.delimiter = ' ', .header = false});
  EXPECT_TRUE(housing.values.equal(numbers({0.00632, 18, 2.31, 0, 0.02731, 0, 7.07, 0}, {2, 4})));
  EXPECT_TRUE(read("\"a b\" c\n\"1\" \"2\"\n", blanks).column("a b").equal(numbers({1}, {1})));
  EXPECT_EQ(refused("a b\n1 2 3\n", blanks), ": line 2 has 3 values; 2 were expected");
  // Several tabs are missing values where tabs part fields, and the message says what else they may be.
  EXPECT_EQ(refused("a\tb\tc\n1\t\t3\n", {.delimiter = '\t'}),
            ": line 2 column 2 (b) is '', a missing value; on_missing says what to do with such rows; delimiter = ' '"
            " takes several tabs for one");
}

TEST_F(Csv, ReadsADecimalComma) {
  const CsvOptions comma{.delimiter = ';', .decimal = ','};
  EXPECT_TRUE(read("a;b\n1,5;-2\n,25;1,5e3\n", comma).values.equal(numbers({1.5, -2, 0.25, 1500}, {2, 2})));
  EXPECT_EQ(refused("a;b\n1,5;2\n", {.delimiter = ';'}),
            ": line 2 column 1 (a) is '1,5'; a finite number was expected; is decimal = ',' meant?");
  EXPECT_THAT(refused("a;b\n1.5;2\n", comma),
              HasSubstr("'1.5'; a finite number was expected; is decimal = '.' meant?"));
  EXPECT_THAT(refused("a;b\n1.234,5;2\n", comma), HasSubstr("'1.234,5'; a finite number was expected (usecols"));
  EXPECT_THAT(refused("a\n1\n", {.decimal = ','}), HasSubstr("decimal = ',' is the delimiter too"));
  EXPECT_THAT(refused("a\n1\n", {.decimal = '\''}), HasSubstr("use '.' or ','"));
}

TEST_F(Csv, NamesTheDelimiterThatMayBeMeant) {
  EXPECT_EQ(refused("a;b\n1;2\n"),
            ": line 2 column 1 (a;b) is '1;2'; a finite number was expected; is delimiter = ';' meant?");
  EXPECT_THAT(refused("a b\n1 2\n"), HasSubstr("is delimiter = ' ' meant?"));
  EXPECT_THAT(refused("a\tb\n1\t2\n"), HasSubstr("is delimiter = '\\t' meant?"));
  EXPECT_EQ(refused("a;b\n1,5;2,5\n"), ": line 2 has 3 values; 1 were expected; is delimiter = ';' meant?");
}

TEST_F(Csv, TakesForMissingWhatPandasDoes) {
  for (const char* text : {"", "?", "-", "NA", "N/A", "n/a", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None",
                           "#N/A", "#NA", "1.#IND", "-1.#QNAN"}) {
    const auto table = read("a,b\n1," + std::string(text) + "\n", {.on_missing = Missing::nan});
    EXPECT_TRUE(std::isnan(table.column("b").item<double>())) << text;
  }
  EXPECT_EQ(read("a\n-1\n").column("a").item<double>(), -1);
}

TEST_F(Csv, ADelimiterThatEndsEveryRowPartsNothing) {
  const auto two = numbers({1, 2, 3, 4}, {2, 2});
  EXPECT_TRUE(read("a,b,\n1,2,\n3,4,\n").values.equal(two));
  EXPECT_THAT(read("a,b,\n1,2,\n3,4,\n").columns, ElementsAre("a", "b"));
  EXPECT_TRUE(read("a,b\n1,2,\n3,4, \n").values.equal(two));
  EXPECT_TRUE(read("a,b,\n1,2\n3,4,").values.equal(two));
  EXPECT_TRUE(read("1,2,\n3,4,\n", {.header = false}).values.equal(two));
  EXPECT_TRUE(read("1,2,\n3,4,\n", {.header = false, .names = {"x", "y"}}).values.equal(two));
  EXPECT_TRUE(read("a\tb\t\n1\t2\t\n3\t4\t\n", {.delimiter = '\t'}).values.equal(two));
  // A value there shows that it begins a column, whose other values are missing.
  EXPECT_EQ(refused("a,b,\n1,2,\n3,4,5\n"),
            ": line 2 column 3 is '', a missing value; on_missing says what to do with such rows");
  EXPECT_EQ(read("a,b,\n1,2,\n3,4,5\n", {.on_missing = Missing::drop_row}).rows(), 1);
  EXPECT_THAT(read("a,b,\n1,2,\n", {.names = {"x", "y", "z"}, .on_missing = Missing::nan}).columns,
              ElementsAre("x", "y", "z"));
  EXPECT_EQ(refused("a,b\n1,2,,\n"), ": line 2 has 4 values; 2 were expected");
}

TEST_F(Csv, ReadsTheLineEndsOfOldMacs) {
  EXPECT_TRUE(read("a,b\r1,2\r3,4").values.equal(numbers({1, 2, 3, 4}, {2, 2})));
  EXPECT_EQ(refused("a,b\r1,2\r\rx,4\r"),
            ": line 4 column 1 (a) is 'x'; a finite number was expected (usecols chooses columns)");
  // A pair that the reader's buffer of 256 KiB parts.
  const std::string first(262143 - 2, ' ');
  EXPECT_TRUE(read("a\n" + first + "\r\n1\r\n2").values.equal(numbers({1, 2}, {2, 1})));
  EXPECT_EQ(refused("a\n" + first + "\r\nx"),
            ": line 3 column 1 (a) is 'x'; a finite number was expected (usecols chooses columns)");
}

TEST_F(Csv, NamesTheLineAndTheColumnThatAreWrong) {
  EXPECT_EQ(refused("a,b\n1,2\n\n3,x4\n"),
            ": line 4 column 2 (b) is 'x4'; a finite number was expected (usecols chooses columns)");
  EXPECT_THAT(refused("1,2x\n", {.header = false}), HasSubstr(": line 1 column 2 is '2x'"));
  EXPECT_THAT(refused("a\ninf\n"), HasSubstr("line 2 column 1 (a) is 'inf'"));
  EXPECT_THAT(refused("a\n1e999\n"), HasSubstr("is '1e999'"));
  EXPECT_THAT(refused("a\n0x10\n"), HasSubstr("is '0x10'"));
  EXPECT_EQ(refused("a,b\n1\n"), ": line 2 has 1 values; 2 were expected");
  EXPECT_EQ(refused("a,b\n1,2\n3,4,5\n"), ": line 3 has 3 values; 2 were expected");
  EXPECT_EQ(refused("a,b,a\n1,2,3\n"), ": line 1 has two columns called 'a'");
  // The line where the row begins, not that where its quoted field ends.
  EXPECT_THAT(refused("a,b\n\"x\ny\",2\n"), HasSubstr("line 2 column 1 (a) is 'x\\ny'"));
  EXPECT_EQ(refused("a\n\"1\n2\n"), ": line 2 opens a quote that is never closed");
  EXPECT_EQ(refused("a\n\"1\"2\n"), ": line 2 column 1 goes on after its closing quote");
}

TEST_F(Csv, RefusesFilesWithoutATable) {
  EXPECT_EQ(refused(""), " is empty; rows of numbers were expected");
  EXPECT_EQ(refused("\n \n"), " is empty; rows of numbers were expected");
  EXPECT_EQ(refused("a,b\n"), " has no row of numbers");
  EXPECT_THAT(refusal([&] { read_csv(dir_ / "absent.csv"); }), HasSubstr("No such file"));
  EXPECT_THAT(refused("a\n1\n", {.delimiter = '"'}), HasSubstr("delimiter = '\"'"));
  EXPECT_THAT(refused(std::string("a\n\0\n", 4)), HasSubstr("line 2 column 1 (a) is '\\x00'"));
}

TEST_F(Csv, BoundsWhatHostileFilesCost) {
  EXPECT_THAT(refused("a\n1\n2\n", {.most_bytes = 4}), HasSubstr("more than 4 bytes"));
  EXPECT_THAT(refused("a\n" + std::string(2000000, '1')), HasSubstr("is longer than 1048576 characters"));
  // A quote over very many short lines is neither collected without end nor read again and again.
  std::string open = "a\n\"";
  for (int i = 0; i < 2000000; ++i) open += "\n";
  EXPECT_EQ(refused(open), ": line 2 is longer than 1048576 characters");
}

}  // namespace
}  // namespace troupe
