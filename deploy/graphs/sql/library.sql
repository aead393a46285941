-- A small library: a database to try deploy/graphs/sql.yaml with. Everybody in it is made up.
PRAGMA foreign_keys = ON;

CREATE TABLE branch (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  street TEXT NOT NULL,
  opened DATE NOT NULL
);
CREATE TABLE staff (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  email TEXT NOT NULL,
  branch_id INTEGER NOT NULL REFERENCES branch(id)
);
CREATE TABLE author (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  born INTEGER
);
CREATE TABLE book (
  id INTEGER PRIMARY KEY,
  title TEXT NOT NULL,
  language TEXT NOT NULL,
  published INTEGER NOT NULL
);
CREATE TABLE book_author (
  book_id INTEGER NOT NULL REFERENCES book(id),
  author_id INTEGER NOT NULL REFERENCES author(id),
  PRIMARY KEY (book_id, author_id)
);
CREATE TABLE copy (
  id INTEGER PRIMARY KEY,
  book_id INTEGER NOT NULL REFERENCES book(id),
  branch_id INTEGER NOT NULL REFERENCES branch(id),
  shelf TEXT NOT NULL
);
CREATE TABLE member (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  email TEXT NOT NULL,
  joined DATE NOT NULL
);
CREATE TABLE loan (
  id INTEGER PRIMARY KEY,
  copy_id INTEGER NOT NULL REFERENCES copy(id),
  member_id INTEGER NOT NULL REFERENCES member(id),
  lent DATE NOT NULL,
  due DATE NOT NULL,
  returned DATE
);
CREATE TABLE fine (
  id INTEGER PRIMARY KEY,
  loan_id INTEGER NOT NULL REFERENCES loan(id),
  amount REAL NOT NULL,
  paid DATE
);

INSERT INTO branch VALUES
  (1, 'Harbour', 'Harbour Street 4', '1962-05-02'),
  (2, 'Hill', 'Chapel Hill 19', '1987-09-14'),
  (3, 'Station', 'Station Square 1', '2011-03-01');
INSERT INTO staff VALUES
  (1, 'Mira Olsen', 'mira@library.example', 1),
  (2, 'Tom Adeyemi', 'tom@library.example', 2),
  (3, 'Lena Fischer', 'lena@library.example', 3),
  (4, 'Raj Patel', 'raj@library.example', 1);
INSERT INTO author VALUES
  (1, 'Ana Ruiz', 1931), (2, 'Henrik Dahl', 1902), (3, 'Odile Martin', 1958),
  (4, 'Yusuf Kaya', 1975), (5, 'Grace Whitfield', NULL);
INSERT INTO book VALUES
  (1, 'The Long Winter', 'English', 1948), (2, 'Salt', 'English', 1971),
  (3, 'La maison du port', 'French', 1989), (4, 'Nachtzug', 'German', 2003),
  (5, 'A Field Guide to Lichens', 'English', 1995), (6, 'Letters from the Coast', 'English', 1963),
  (7, 'Le dernier phare', 'French', 2014), (8, 'Bread', 'English', 2019);
INSERT INTO book_author VALUES
  (1, 2), (2, 1), (3, 3), (4, 4), (5, 5), (6, 1), (6, 2), (7, 3), (8, 4);
INSERT INTO copy VALUES
  (1, 1, 1, 'A3'), (2, 1, 2, 'B1'), (3, 2, 1, 'A7'), (4, 3, 3, 'F2'), (5, 4, 3, 'G1'),
  (6, 5, 2, 'N4'), (7, 6, 1, 'L2'), (8, 7, 3, 'F2'), (9, 8, 1, 'K5'), (10, 8, 3, 'K1'),
  (11, 2, 2, 'B4'), (12, 6, 3, 'L1');
INSERT INTO member VALUES
  (1, 'Peter Hall', 'peter@mail.example', '2015-01-20'),
  (2, 'Noor Haddad', 'noor@mail.example', '2018-06-03'),
  (3, 'Ines Costa', 'ines@mail.example', '2019-11-11'),
  (4, 'Carl Berg', 'carl@mail.example', '2020-02-29'),
  (5, 'Wanda Nowak', 'wanda@mail.example', '2021-08-17'),
  (6, 'Jun Tanaka', 'jun@mail.example', '2024-04-05');
INSERT INTO loan VALUES
  (1, 1, 1, '2026-01-05', '2026-02-02', '2026-02-20'),
  (2, 3, 1, '2026-02-20', '2026-03-20', '2026-03-18'),
  (3, 4, 2, '2026-03-01', '2026-03-29', '2026-03-20'),
  (4, 9, 3, '2026-03-07', '2026-04-04', '2026-05-01'),
  (5, 5, 4, '2026-03-12', '2026-04-09', NULL),
  (6, 7, 2, '2026-04-02', '2026-04-30', '2026-04-28'),
  (7, 10, 5, '2026-04-15', '2026-05-13', NULL),
  (8, 2, 3, '2026-05-02', '2026-05-30', '2026-05-29'),
  (9, 11, 1, '2026-05-03', '2026-05-31', NULL),
  (10, 8, 2, '2026-06-01', '2026-06-29', '2026-06-10');
INSERT INTO fine VALUES
  (1, 1, 3.60, '2026-02-20'), (2, 4, 5.40, NULL), (3, 5, 12.00, NULL), (4, 7, 8.20, NULL);
