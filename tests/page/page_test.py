"""page_test.py BROWSER FOLDER [SCREENSHOTS]: opens the pages in FOLDER and uses them as a reader would."""
import os
import sys
import time
import unittest

from browser import Browser

CURSOR = "document.querySelector('#chart-0').getAttribute('aria-valuetext')"
ZOOM = "document.querySelector('#zoomed').textContent"
STYLE = "getComputedStyle(document.querySelector('%s')).%s"
# What the first chart shows, as text that is another one for another picture.
PICTURE = "document.querySelector('.plot canvas').toDataURL()"
# WCAG 2's contrast of the text in an element with what is behind it.
CONTRAST = """(selector) => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const worst = [...document.querySelectorAll(selector)].filter((node) => node.offsetParent && node.innerText).map((node) => {
    let behind = node;
    while (behind && /rgba\\(0, 0, 0, 0\\)/.test(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    const colors = [light(getComputedStyle(node).color), light(getComputedStyle(behind || document.body).backgroundColor)].sort((a, b) => b - a);
    return [(colors[0] + 0.05) / (colors[1] + 0.05), node.outerHTML.slice(0, 80)];
  }).sort((a, b) => a[0] - b[0]);
  return worst[0] || [21, ''];
}"""


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser(program)
        # The pages were just written, however long these tests take.
        cls.now = int(1000 * time.time())
        cls.browser.call("Page.addScriptToEvaluateOnNewDocument", source=f"Date.now = () => {cls.now}")

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()

    def setUp(self):
        self.browser.media(color_scheme="light", reduced_motion="no-preference")
        self.browser.size(1280, 900)
        self.browser.problems.clear()
        self.browser.loaded.clear()

    def tearDown(self):
        self.assertEqual(self.browser.problems, [], "what the console says")

    def open(self, name):
        self.browser.open(os.path.join(folder, name + ".html"))
        self.browser.run("sessionStorage.clear()")
        return self.browser.run

    def shot(self, name):
        if screenshots:
            self.browser.screenshot(os.path.join(screenshots, name + ".png"))

    def box(self, selector="#chart-0"):
        return self.browser.run(f"(({{x, y, width, height}}) => ({{x, y, width, height}}))(document.querySelector('{selector}').getBoundingClientRect())")

    def test_draws_every_page_without_an_error(self):
        for name in ("finished", "running", "limited", "failed", "several", "odd", "empty", "none", "large", "many"):
            with self.subTest(name):
                run = self.open(name)
                run("dispatchEvent(new Event('beforeprint')); dispatchEvent(new Event('afterprint'))")
                self.browser.frames()
                if name not in ("empty", "none"):  # an empty canvas takes 1 to 2 kB
                    self.assertGreater(len(run(PICTURE)), 3000)
                self.shot(name)
                print(f"{name}: {os.path.getsize(os.path.join(folder, name + '.html'))} bytes, {run('document.documentElement.dataset.charts')} charts, "
                      f"read and drawn in {run('document.documentElement.dataset.drawMs')} ms, all charts drawn again in "
                      f"{run('document.documentElement.dataset.drawAllMs')} ms", file=sys.stderr)

    def test_loads_nothing_but_itself(self):
        self.open("finished")
        self.assertEqual(self.browser.loaded, [f"file://{folder}/finished.html"])

    def test_puts_training_and_validation_into_one_chart(self):
        run = self.open("finished")
        self.assertEqual(run("[...document.querySelectorAll('figure')].map((each) => each.querySelector('h4').textContent)"),
                         ["loss", "acc", "grad_norm", "lr-AdamW", "train/batches_per_sec", "train/samples_per_sec"])
        self.assertEqual(run("[...document.querySelectorAll('figure:first-of-type')[0].querySelectorAll('.legend bdi')].map((each) => each.textContent)"),
                         ["train_loss", "train_loss_epoch", "val_loss"])
        self.assertEqual(run("[...document.querySelectorAll('h3')].slice(0, 3).map((each) => each.textContent)"),
                         ["Metrics", "Learning rates", "Throughput"])

    def test_shows_values_under_the_mouse_in_all_charts(self):
        run = self.open("finished")
        box = self.box()
        self.browser.mouse("mouseMoved", box["x"] + box["width"] / 2, box["y"] + 80)
        self.browser.frames()
        self.assertRegex(run(CURSOR), r"^step [23],\d\d\d: train_loss 0\.\d+, ")
        self.assertRegex(run(CURSOR.replace("chart-0", "chart-1")), r"^step [23],\d\d\d: train_acc")
        self.shot("hover")
        self.browser.mouse("mouseMoved", 5, 5)
        self.browser.frames()
        self.assertRegex(run(CURSOR), "^step 5,999: ")

    def test_zooms_by_dragging_and_back_by_a_double_click_or_escape(self):
        run = self.open("finished")
        whole = run(PICTURE)
        box = self.box()
        middle = box["y"] + 80

        def drag():
            self.browser.mouse("mousePressed", box["x"] + 100, middle)
            self.browser.mouse("mouseMoved", box["x"] + 150, middle)
            self.browser.mouse("mouseReleased", box["x"] + 200, middle)
            self.browser.frames()
            self.assertRegex(run(ZOOM), r"^step [\d,]+ to [\d,]+$")
            self.assertNotEqual(run(PICTURE), whole)

        drag()
        self.shot("zoomed")
        for count in (1, 2):
            self.browser.mouse("mousePressed", box["x"] + 100, middle, count)
            self.browser.mouse("mouseReleased", box["x"] + 100, middle, count)
        self.browser.frames()
        self.assertEqual(run(ZOOM), "")
        self.assertEqual(run(PICTURE), whole)
        drag()
        self.browser.key("Escape")
        self.assertEqual(run(ZOOM), "")

    def test_works_by_keyboard_alone(self):
        run = self.open("finished")
        self.browser.key("Tab")
        self.assertEqual(run("document.activeElement.textContent"), "Skip to the curves")
        for _ in range(60):
            if run("document.activeElement.id") == "chart-0":
                break
            self.browser.key("Tab")
        self.assertEqual(run("document.activeElement.id"), "chart-0")
        self.assertNotEqual(run("getComputedStyle(document.activeElement).outlineStyle"), "none")
        self.browser.key("Home")
        first = run(CURSOR)
        self.assertTrue(first.startswith("step 0: train_loss "), first)
        self.browser.key("ArrowRight")
        second = run(CURSOR)
        self.assertNotEqual(first, second)
        self.browser.key("ArrowLeft")
        self.assertEqual(run(CURSOR), first)
        self.browser.key("End")
        self.assertTrue(run(CURSOR).startswith("step 5,999: "), run(CURSOR))
        self.browser.key("ArrowLeft", shift=True)
        self.assertTrue(run(CURSOR).startswith("step 5,39") or run(CURSOR).startswith("step 5,40"), run(CURSOR))
        self.browser.key("+")
        self.assertRegex(run(ZOOM), "^step ")
        self.browser.key("-")
        self.browser.key("Escape")
        self.assertEqual(run(ZOOM), "")

    def test_changes_scale_smoothing_and_axis(self):
        run = self.open("finished")
        seen = [run(PICTURE)]
        for act in ("document.querySelector('#set-log').click()",
                    "{const input = document.querySelector('#set-smoothing'); input.value = 0.9; input.dispatchEvent(new Event('input'))}",
                    "document.querySelector('#set-outliers').click()", "document.querySelector('#axis-epoch').click()",
                    "document.querySelector('#axis-time').click()"):
            run(act)
            self.browser.frames()
            self.assertNotIn(run(PICTURE), seen, act)
            seen.append(run(PICTURE))
        self.assertRegex(run(CURSOR), r"^time 2 min \d+ s: train_loss")
        self.shot("log_smooth_time")

    def test_filters_by_name(self):
        run = self.open("finished")
        filters = "{const input = document.querySelector('#filter'); input.value = '%s'; input.dispatchEvent(new Event('input'))}"
        shown = "[...document.querySelectorAll('figure')].filter((each) => each.offsetParent).map((each) => each.querySelector('h4').textContent)"
        run(filters % "VAL acc")
        self.assertEqual(run(shown), ["acc"])
        run(filters % "nothing")
        self.assertEqual(run(shown), [])
        self.assertEqual(run("document.querySelector('#no-charts').textContent"), "No metric has 'nothing' in its name.")

    def test_tells_where_a_run_failed(self):
        run = self.open("failed")
        text = run("document.querySelector('#first-failure').innerText")
        for part in ("mat1 and mat2 shapes", "Rank\n1", "gpu-18", "cuda:1", "training_step", "Epoch\n5", "Batch\n17"):
            self.assertIn(part, text)
        self.assertIn("failed", run("document.title"))

    def test_draws_what_finders_have_measured(self):
        run = self.open("tuned")
        plot = "document.querySelector('#findings svg')"
        self.assertIn("The loss falls fastest at the rate 0.01.", run(plot + ".getAttribute('aria-label')"))
        places = run("Array.from(%s.querySelectorAll('.point'), (dot) => Number(dot.getAttribute('cx')))" % plot)
        self.assertEqual(len(places), 4)  # the fifth is NaN
        steps = [after - before for before, after in zip(places, places[1:])]
        self.assertLess(max(steps) - min(steps), 1e-6)  # decades are equally wide
        self.assertAlmostEqual(float(run(plot + ".querySelector('circle.chosen').getAttribute('cx')")), places[2])
        self.assertEqual(run(plot + ".querySelector('path').getAttribute('d').match(/[ML]/g).join('')"), "MLLL")

    def test_says_how_far_a_run_is_and_keeps_what_the_reader_has_set(self):
        run = self.open("running")
        self.assertRegex(run("document.querySelector('.progress').innerText"), r"41\.7 %.*2,500 of 6,000 batches.*1 min 19 s left")
        limited = self.open("limited")
        self.assertRegex(limited("document.querySelector('.progress').innerText"), r"2,500 of about 2,600 batches.*3\.0 s left")
        run = self.open("running")
        run("document.querySelector('#set-log').click()")
        run("{const input = document.querySelector('#filter'); input.value = 'loss'; input.dispatchEvent(new Event('input'))}")
        run("document.querySelector('#chart-0').focus()")
        self.browser.key("+")
        run("document.querySelector('#renew').click()")
        zoom = run(ZOOM)
        self.browser.events.clear()
        self.browser.call("Page.reload")
        self.browser.wait_for("Page.loadEventFired")
        self.browser.settle()
        self.assertEqual(run("[document.querySelector('#set-log').checked, document.querySelector('#filter').value, document.querySelector('#renew').checked]"),
                         [True, "loss", False])
        self.assertEqual(run(ZOOM), zoom)
        run("sessionStorage.clear()")

    def test_says_when_it_was_written_and_that_this_is_long_ago(self):
        run = self.open("running")
        self.assertRegex(run("document.querySelector('#written').innerText"), r"^Page written .*(just now|ago)$")
        self.assertTrue(run("document.querySelector('#silence').hidden"))
        other = Browser(program)
        self.addCleanup(other.close)
        other.call("Page.addScriptToEvaluateOnNewDocument", source=f"Date.now = () => {self.now + 300000}")
        other.open(os.path.join(folder, "running.html"))
        self.assertRegex(other.run("document.querySelector('#written').innerText"), r" 5 min.* ago$")
        self.assertIn("Nothing has been written for 5 min", other.run("document.querySelector('#silence').innerText"))
        self.assertIn("no news", other.run("document.querySelector('[role=status]').innerText"))
        self.assertIn("no news", other.run("document.title"))
        self.assertIn("left", run("document.querySelector('.progress').innerText"))
        self.assertNotIn("left", other.run("document.querySelector('.progress').innerText"))

    def test_says_what_a_process_has_said_that_crashed(self):
        run = self.open("crashed")
        self.assertIn("lost", run("document.title"))
        self.assertIn("lost", run("document.querySelector('[role=status]').innerText"))
        failure = run("document.querySelector('#first-failure').innerText")
        for part in ("SIGSEGV (invalid memory access)", "training_step", "35"):
            self.assertIn(part, failure)
        self.assertIsNone(run("document.querySelector('#renew')"))
        self.assertNotIn("left", run("document.querySelector('.progress').innerText"))

    def test_says_that_the_process_of_a_run_is_gone(self):
        run = self.open("lost")
        self.assertIn("lost", run("document.title"))
        self.assertIn("lost", run("document.querySelector('[role=status]').innerText"))
        self.assertIn("its process is gone", run("document.querySelector('.notice').innerText"))
        self.assertIsNone(run("document.querySelector('#renew')"))

    def test_renews_itself_only_while_the_run_goes_on(self):
        # The page's timer rings when the test says so.
        other = Browser(program)
        self.addCleanup(other.close)
        other.call("Page.addScriptToEvaluateOnNewDocument", source="window.timers = []; window.setInterval = (act) => window.timers.push(act)")
        for name in ("finished", "several"):
            other.open(os.path.join(folder, name + ".html"))
            self.assertEqual(other.run("timers.length"), 0, name)
        other.open(os.path.join(folder, "running.html"))
        self.assertEqual(other.run("timers.length"), 1)
        other.run("document.querySelector('#renew').click(); timers[0](); window.isOld = true")
        other.frames()
        self.assertTrue(other.run("window.isOld"), "it was paused")
        other.run("document.querySelector('#renew').click()")
        other.events.clear()
        # A minute later: it waits while somebody is at the page.
        other.run("{const now = performance.now(); performance.now = () => now + 60000}; setTimeout(timers[0], 0)")
        other.wait_for("Page.loadEventFired")
        self.assertIsNone(other.run("window.isOld"))

    def test_lays_runs_over_each_other_with_the_options_that_differ(self):
        run = self.open("several")
        self.assertEqual(run("[...document.querySelectorAll('#differences tbody th')].map((each) => each.textContent)"), ["model.lr", "trainer.precision"])
        self.assertIn("version_6 val_loss", run("document.querySelector('.legend').innerText"))
        self.assertIn("dashes are validation.", run("document.querySelector('header .line').innerText"))
        self.assertIn("203,530", run("document.querySelector('#runs table').innerText"))
        before = run(PICTURE)
        run("document.querySelector('#runs input').click()")
        self.browser.frames()
        self.assertNotEqual(run(PICTURE), before)

    def test_shows_each_dash_in_the_legend_as_it_is_drawn(self):
        run = self.open("several")
        items = run("""[...document.querySelectorAll('#chart-0')[0].closest('figure').querySelectorAll('.legend li')].map((item) =>
          [item.querySelector('bdi').textContent, getComputedStyle(item.querySelector('.swatch')).backgroundImage])""")
        dashes = {name.split(" ")[1]: dash for name, dash in items if name.startswith("version_3 ")}
        self.assertEqual(sorted(dashes), ["train_loss", "train_loss_epoch", "val_loss"])
        self.assertEqual(dashes["train_loss"], "none")
        self.assertEqual(len(set(dashes.values())), 3, dashes)

    def test_says_nothing_of_runs_that_they_have_not(self):
        run = self.open("plain_several")
        self.assertEqual(run("document.querySelector('header .line').innerText"), "Each run has one colour in all charts.")
        self.assertEqual(run("[...document.querySelectorAll('#runs tbody tr')].map((each) => each.lastChild.textContent)"), ["not counted"] * 2)

    def test_shows_hostile_names_as_text(self):
        for name in ("hostile", "hostile_several"):
            run = self.open(name)
            self.assertEqual(run("[window.hit ?? null, document.images.length, document.querySelectorAll('main script').length]"), [None, 0, 0])
            self.assertIn("<img src=x onerror=", run("document.body.innerText"))
            self.assertLessEqual(run("document.documentElement.scrollWidth"), 1280)
            self.assertEqual(self.browser.loaded, [f"file://{folder}/{name}.html"])
            self.shot(name)
            self.browser.loaded.clear()

    def test_fits_on_a_phone(self):
        self.browser.size(320, 640, is_phone=True)
        for name in ("finished", "running", "failed", "several", "odd", "empty", "none", "hostile", "hostile_several", "many"):
            run = self.open(name)
            self.assertLessEqual(run("document.documentElement.scrollWidth"), 320, name)
            self.shot(name + "_phone")

    def test_shows_names_and_first_numbers_of_a_table_on_a_phone(self):
        self.browser.size(320, 640, is_phone=True)
        run = self.open("failed")
        self.assertEqual(run("""[...document.querySelectorAll('#phases tbody tr')].filter((row) => {
          const number = row.querySelector('td').getBoundingClientRect(), box = row.closest('.scroll').getBoundingClientRect();
          return number.right > box.right + 1 || row.querySelector('th').getBoundingClientRect().width < 80;
        }).map((row) => row.innerText)"""), [])

    def test_keeps_what_is_below_long_tables_near(self):
        run = self.open("several")
        run("""{const body = document.querySelector('#differences tbody');
               for (let i = 0; i < 500; ++i) body.append(body.rows[0].cloneNode(true));
               document.querySelector('#differences .scroll').scrollTop = 3000}""")
        self.assertLess(self.box("#differences")["height"], 900)
        head, table = self.box("#differences thead th"), self.box("#differences .scroll")
        self.assertAlmostEqual(head["y"], table["y"], delta=40)
        self.browser.call("Emulation.setEmulatedMedia", media="print")
        self.addCleanup(self.browser.call, "Emulation.setEmulatedMedia", media="")
        self.assertGreater(self.box("#differences")["height"], 5000)

    def test_tells_times_below_a_microsecond(self):
        run = self.open("finished")
        text = f"({self.source('format.js', 'duration')})"
        self.assertEqual(run(f"[0, 4.2e-7, 2e-6, 0.0042, 1.25].map({text})"), ["0 µs", "420 ns", "2 µs", "4.20 ms", "1.3 s"])

    def test_gives_the_command_a_line_of_its_own(self):
        run = self.open("finished")
        self.assertEqual(run("""(() => {
          const command = [...document.querySelectorAll('#environment dt')].find((name) => name.textContent === 'Command').parentElement;
          return command.getBoundingClientRect().width === command.parentElement.getBoundingClientRect().width;
        })()"""), True)

    def test_has_enough_contrast_by_day_and_by_night(self):
        texts = "p, td, th, dt, dd, a, h1, h2, h3, h4, li, small, summary, .pill, .tag, .note, caption, label, button, pre, .stack span span, #zoomed"
        for scheme in ("light", "dark"):
            self.browser.media(color_scheme=scheme)
            backgrounds = set()
            for name in ("finished", "running", "failed", "several", "odd"):
                run = self.open(name)
                contrast, where = run(f"({CONTRAST})('{texts}')")
                self.assertGreaterEqual(contrast, 4.5, f"{scheme} {name}: {where}")
                backgrounds.add(run(STYLE % ("body", "backgroundColor")))
                self.shot(f"{name}_{scheme}")
            self.assertEqual(backgrounds, {"rgb(244, 245, 248)"} if scheme == "light" else {"rgb(13, 16, 21)"})

    def test_moves_nothing_for_those_who_want_that(self):
        run = self.open("running")
        self.assertEqual(run(STYLE % (".pill span", "animationName")), "pulse")
        self.browser.media(reduced_motion="reduce")
        self.assertEqual(run(STYLE % (".pill span", "animationName")), "none")

    def test_is_told_by_landmarks_headings_and_tables(self):
        run = self.open("finished")
        for selector in ("header", "main", "nav[aria-label]", "footer", "h1", "[role=status]", "[aria-live]", "canvas[role=slider][aria-label][aria-describedby]"):
            self.assertTrue(run(f"document.querySelector('{selector}') !== null"), selector)
        self.assertRegex(run("document.querySelector('#chart-0-summary').textContent"),
                         r"^train_loss: 6,000 values, last 0\.\d+ at step 5,999, lowest 0\.\d+ at step [\d,]+, highest [2345]\.\d+ at step ")
        self.assertEqual(run("[...document.querySelectorAll('input, button')].filter((each) => !each.labels?.length && !each.getAttribute('aria-label')).length"), 0)
        self.assertEqual(run("(() => {const ids = [...document.querySelectorAll('[id]')].map((each) => each.id); return ids.length - new Set(ids).size})()"), 0)
        run("document.querySelector('#chart-0-data').open = true")
        self.browser.frames()
        self.assertEqual(run("[...document.querySelectorAll('#chart-0-data thead th')].map((each) => each.textContent)"),
                         ["step", "train_loss", "train_loss_epoch", "val_loss"])
        rows = run("document.querySelectorAll('#chart-0-data tbody tr').length")
        self.assertTrue(100 <= rows <= 201, rows)

    def test_smooths_as_tensorboard_does(self):
        run = self.open("odd")
        # TensorBoard's resmoothing of 1, 2, 3 at weight 0.5: 1, 5/3, 17/7.
        smooth = self.source("series.js", "smooth")
        self.assertEqual(run(f"({smooth})(Float64Array.of(1, 2, 3), 0.5).join()"), f"1,{5 / 3},{17 / 7}")
        self.assertEqual(run(f"({smooth})(Float64Array.of(1, NaN, 3), 0.5).map((v) => v === v ? 1 : 0).join()"), "1,0,1")

    def source(self, file, name):
        """The text of one function of the page's program."""
        with open(os.path.join(os.path.dirname(__file__), "../../runtime/report/page", file), encoding="utf-8") as source:
            text = source.read()
        begin = text.index(f"function {name}(")
        return text[begin:text.index("\n}\n", begin) + 2]


if __name__ == "__main__":
    program, folder = sys.argv[1], os.path.realpath(sys.argv[2])
    screenshots = sys.argv[3] if len(sys.argv) > 3 else None
    if screenshots:
        os.makedirs(screenshots, exist_ok=True)
    unittest.main(argv=[sys.argv[0]])
