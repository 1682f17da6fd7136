"""Law suites: subclass one, supply a fixture, and pytest checks that it keeps its promises.

    class TestMyMethod(MethodLaws):
        @pytest.fixture
        def method(self):
            return MyMethod()

    class TestMyMap(MapLaws):
        @pytest.fixture
        def steering_map(self, samples):
            return MyMethod().fit(*samples)

    class TestMyModel(ModelLaws):
        @pytest.fixture(scope="class")
        @classmethod
        def model(cls):
            return load_model("my-model")

    class TestMyStore(StoreLaws):
        @pytest.fixture
        def store_type(self):
            return MyStore

    class TestMyTheory(TheoryLaws):
        @pytest.fixture(scope="class")
        @classmethod
        def hypothesis(cls):
            return MyTheory()

Needs pytest. Nothing in the package imports this.
"""

from steerlens.testing.map_laws import MapLaws
from steerlens.testing.method_laws import MethodLaws
from steerlens.testing.model_laws import ModelLaws
from steerlens.testing.samples import Samples, gaussian_samples
from steerlens.testing.store_laws import StoreLaws
from steerlens.testing.theory_laws import TheoryLaws

__all__ = ["MapLaws", "MethodLaws", "ModelLaws", "Samples", "StoreLaws", "TheoryLaws", "gaussian_samples"]
